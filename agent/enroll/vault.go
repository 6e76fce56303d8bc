// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"
)

// DefaultSecret is the Secret of OCM's agents with the hub's credentials.
const DefaultSecret = "hub-kubeconfig-secret" //nolint:gosec // a name

// Record is everything that an agent knows about its identity.
type Record struct {
	ClusterName string
	AgentName   string
	HubID       string
	Endpoints   []string
	// CAs verify the hub's certificate (PEM); TrustVersion is the hub's version
	// of them.
	CAs          []byte
	TrustVersion uint64
	// Certificate is the chain (PEM) and Key its key (PEM). Empty before the
	// first one was issued.
	Certificate, Key []byte
	RenewAfter       time.Time

	// PendingKey is the key of an enrollment that is under way.
	PendingKey   []byte
	PendingToken string
	EnrollmentID string
	PairingCode  string
	// TokenID is the join token that led to the certificate, PendingToken the one
	// of the enrollment under way; secrets of tokens are not kept.
	TokenID string
}

// Vault keeps a Record. Save replaces the whole of it, or fails and leaves the
// old one.
type Vault interface {
	// Load returns an empty Record when there is none.
	Load(ctx context.Context) (Record, error)
	Save(ctx context.Context, record Record) error
}

// Keys of the Secret and of the file.
const (
	keyCertificate  = corev1.TLSCertKey
	keyPrivate      = corev1.TLSPrivateKeyKey
	keyCluster      = "cluster-name"
	keyAgent        = "agent-name"
	keyHub          = "hub-id"
	keyEndpoints    = "endpoints"
	keyCAs          = "ca.crt"
	keyTrustVersion = "trust-bundle-version"
	keyRenewAfter   = "renew-after"
	keyPending      = "pending.key"
	keyEnrollment   = "enrollment-id"
	keyPairing      = "pairing-code"
	keyToken        = "token-id"
	keyPendingToken = "pending-token-id"
)

// encode has every key, with no value for what is not known, so that an older
// value does not stay.
func (r Record) encode() map[string][]byte {
	data := map[string][]byte{
		keyCertificate: r.Certificate, keyPrivate: r.Key, keyCluster: []byte(r.ClusterName), keyAgent: []byte(r.AgentName),
		keyHub: []byte(r.HubID), keyEndpoints: []byte(strings.Join(r.Endpoints, ",")), keyCAs: r.CAs,
		keyPending: r.PendingKey, keyEnrollment: []byte(r.EnrollmentID), keyPairing: []byte(r.PairingCode), keyToken: []byte(r.TokenID), keyPendingToken: []byte(r.PendingToken),
		keyTrustVersion: nil, keyRenewAfter: nil,
	}
	if r.TrustVersion != 0 {
		data[keyTrustVersion] = strconv.AppendUint(nil, r.TrustVersion, 10)
	}
	if !r.RenewAfter.IsZero() {
		data[keyRenewAfter] = []byte(r.RenewAfter.UTC().Format(time.RFC3339))
	}
	return data
}

func decode(data map[string][]byte) (Record, error) {
	r := Record{
		Certificate: data[keyCertificate], Key: data[keyPrivate], ClusterName: string(data[keyCluster]), AgentName: string(data[keyAgent]),
		HubID: string(data[keyHub]), CAs: data[keyCAs],
		PendingKey: data[keyPending], EnrollmentID: string(data[keyEnrollment]), PairingCode: string(data[keyPairing]), TokenID: string(data[keyToken]),
		PendingToken: string(data[keyPendingToken]),
	}
	if raw := string(data[keyEndpoints]); raw != "" {
		r.Endpoints = strings.Split(raw, ",")
	}
	var errVersion, errTime error
	if raw := string(data[keyTrustVersion]); raw != "" {
		r.TrustVersion, errVersion = strconv.ParseUint(raw, 10, 64)
	}
	if raw := string(data[keyRenewAfter]); raw != "" {
		r.RenewAfter, errTime = time.Parse(time.RFC3339, raw)
	}
	return r, errors.Join(errVersion, errTime)
}

// SecretVault keeps the record in one Secret, beside keys of others.
type SecretVault struct {
	client corev1client.SecretInterface
	name   string
}

// NewSecretVault uses a Secret of that name; it need not exist.
func NewSecretVault(client corev1client.SecretInterface, name string) *SecretVault {
	return &SecretVault{client: client, name: name}
}

// Load implements Vault.
func (v *SecretVault) Load(ctx context.Context) (Record, error) {
	secret, err := v.client.Get(ctx, v.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("reading the agent's credentials: %w", err)
	}
	record, err := decode(secret.Data)
	if err != nil {
		return Record{}, fmt.Errorf("reading the agent's credentials in Secret %q: %w", v.name, err)
	}
	return record, nil
}

// Save implements Vault.
func (v *SecretVault) Save(ctx context.Context, record Record) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { return v.save(ctx, record) })
	if err != nil {
		return fmt.Errorf("storing the agent's credentials in Secret %q: %w", v.name, err)
	}
	return nil
}

func (v *SecretVault) save(ctx context.Context, record Record) error {
	secret, err := v.client.Get(ctx, v.name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if missing {
		secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: v.name}}
	} else if err != nil {
		return err
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	for key, value := range record.encode() {
		if len(value) == 0 {
			delete(secret.Data, key)
			continue
		}
		secret.Data[key] = value
	}
	if !missing {
		_, err = v.client.Update(ctx, secret, metav1.UpdateOptions{})
		return err
	}
	_, err = v.client.Create(ctx, secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return apierrors.NewConflict(corev1.Resource("secrets"), v.name, err)
	}
	return err
}

// FileVault keeps the record in one file that only its owner can read.
type FileVault struct{ path string }

// NewFileVault uses a file in dir, which is made if it is missing.
func NewFileVault(dir string) (*FileVault, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for the agent's credentials: %w", err)
	}
	return &FileVault{path: filepath.Join(dir, "credentials.json")}, nil
}

// Load implements Vault.
func (v *FileVault) Load(context.Context) (Record, error) {
	raw, err := os.ReadFile(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("reading the agent's credentials: %w", err)
	}
	text := map[string]string{}
	if err := json.Unmarshal(raw, &text); err != nil {
		return Record{}, fmt.Errorf("reading the agent's credentials in %s: %w", v.path, err)
	}
	data := make(map[string][]byte, len(text))
	for key, value := range text {
		data[key] = []byte(value)
	}
	return decode(data)
}

// Save implements Vault: a new file, then a rename, both on disk.
func (v *FileVault) Save(_ context.Context, record Record) error {
	text := map[string]string{}
	for key, value := range record.encode() {
		if len(value) > 0 {
			text[key] = string(value)
		}
	}
	raw, err := json.MarshalIndent(text, "", "  ")
	if err == nil {
		err = writeSynced(v.path, raw)
	}
	if err != nil {
		return fmt.Errorf("storing the agent's credentials: %w", err)
	}
	return nil
}

func writeSynced(path string, content []byte) error {
	temp := path + ".tmp"
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
