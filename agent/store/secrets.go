// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"fairlead.dev/fairlead/internal/wire"
)

// How the store's Secrets look. They are found by label, never by name pattern.
const (
	// PartLabel marks every Secret of the store: record, chunk or meta.
	PartLabel = "fairlead.dev/store"
	// ObjectAnnotation names, for people, what a record is about.
	ObjectAnnotation = "fairlead.dev/object"
	// SecretType is the type of the store's Secrets.
	SecretType = corev1.SecretType("fairlead.dev/store")

	partRecord = "record"
	partChunk  = "chunk"
	partMeta   = "meta"

	secretPrefix = "fairlead-store-"
	metaSecret   = secretPrefix + "meta"
	headData     = "head"
	bodyData     = "body"

	// maxChunk bounds the data of one Secret; with base64 it stays under the
	// 1 MiB that a Secret may hold.
	maxChunk = 512 << 10
	// listPage is how many Secrets are read at once.
	listPage = 50
)

// Secrets is the Backend for agents in a cluster: one Secret per record with
// its body; a body over 512 KiB goes into chunk Secrets, written first, and the
// record, which names them and the digest of the whole, is written last.
type Secrets struct {
	client corev1client.SecretInterface

	mu     sync.Mutex
	chunks map[wire.Key][]string // of every record known to exist
}

// NewSecrets uses the Secrets of one namespace, which has to exist.
func NewSecrets(client corev1client.SecretInterface) *Secrets {
	return &Secrets{client: client, chunks: map[wire.Key][]string{}}
}

// secretHead is what a record's Secret says about itself.
type secretHead struct {
	Kind   wire.Kind       `json:"kind"`
	Name   string          `json:"name"`
	Head   json.RawMessage `json:"head"`
	SHA256 string          `json:"sha256"` // of the whole body
	Chunks []string        `json:"chunks,omitempty"`
}

// PutRecord implements Backend.
func (s *Secrets) PutRecord(ctx context.Context, record Record) error {
	sum := sha256.Sum256(record.Body)
	head := secretHead{Kind: record.Key.Kind, Name: record.Key.Name, Head: record.Head, SHA256: hex.EncodeToString(sum[:])}
	body := record.Body
	if len(body) > maxChunk {
		names, err := s.putChunks(ctx, record.Key, head.SHA256, body)
		if err != nil {
			return err
		}
		head.Chunks, body = names, nil
	}
	raw, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", record.Key, err)
	}
	old, exists := s.known(record.Key)
	secret := newSecret(secretPrefix+recordID(record.Key), partRecord, map[string][]byte{headData: raw, bodyData: body})
	secret.Annotations = map[string]string{ObjectAnnotation: record.Key.String()}
	if err := s.put(ctx, secret, exists); err != nil {
		return fmt.Errorf("storing %s in a Secret: %w", record.Key, err)
	}
	s.mu.Lock()
	s.chunks[record.Key] = head.Chunks
	s.mu.Unlock()
	s.removeChunks(ctx, old, head.Chunks)
	return nil
}

// RemoveRecord implements Backend.
func (s *Secrets) RemoveRecord(ctx context.Context, key wire.Key) error {
	if err := s.remove(ctx, secretPrefix+recordID(key)); err != nil {
		return fmt.Errorf("removing the record of %s: %w", key, err)
	}
	old, _ := s.known(key)
	s.mu.Lock()
	delete(s.chunks, key)
	s.mu.Unlock()
	s.removeChunks(ctx, old, nil)
	return nil
}

// PutMeta implements Backend.
func (s *Secrets) PutMeta(ctx context.Context, meta []byte) error {
	if err := s.put(ctx, newSecret(metaSecret, partMeta, map[string][]byte{headData: meta}), true); err != nil {
		return fmt.Errorf("storing the store's own record in a Secret: %w", err)
	}
	return nil
}

func (s *Secrets) known(key wire.Key) (chunks []string, exists bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chunks, exists = s.chunks[key]
	return chunks, exists
}

// putChunks writes a body in pieces. Their names come from the content, so
// they never take the place of the pieces that the present record names.
func (s *Secrets) putChunks(ctx context.Context, key wire.Key, sum string, body []byte) ([]string, error) {
	var names []string
	for i, piece := range wire.Cut(body, maxChunk) {
		secret := newSecret(fmt.Sprintf("%s%s-%s-%d", secretPrefix, recordID(key), sum[:16], i), partChunk, map[string][]byte{bodyData: piece})
		if err := s.put(ctx, secret, false); err != nil {
			return nil, fmt.Errorf("storing part %d of %s in a Secret: %w", i, key, err)
		}
		names = append(names, secret.Name)
	}
	return names, nil
}

// removeChunks removes pieces that no record names any more. What it cannot
// remove now, the next Load does.
func (s *Secrets) removeChunks(ctx context.Context, old, used []string) {
	for _, name := range old {
		if !slices.Contains(used, name) {
			_ = s.remove(ctx, name)
		}
	}
}

// put writes without a resourceVersion: this agent is the only writer. It tries
// first what is likely.
func (s *Secrets) put(ctx context.Context, secret *corev1.Secret, exists bool) error {
	if exists {
		_, err := s.client.Update(ctx, secret, metav1.UpdateOptions{})
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err := s.client.Create(ctx, secret, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = s.client.Update(ctx, secret, metav1.UpdateOptions{})
	return err
}

func (s *Secrets) remove(ctx context.Context, name string) error {
	if err := s.client.Delete(ctx, name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

func newSecret(name, part string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{PartLabel: part}},
		Type:       SecretType,
		Data:       data,
	}
}

// Load implements Backend.
func (s *Secrets) Load(ctx context.Context) (Loaded, error) {
	var loaded Loaded
	var heads []*corev1.Secret
	pieces := map[string][]byte{}
	options := metav1.ListOptions{LabelSelector: PartLabel, Limit: listPage}
	for {
		page, err := s.client.List(ctx, options)
		if err != nil {
			return Loaded{}, fmt.Errorf("reading the store's Secrets: %w", err)
		}
		for i := range page.Items {
			secret := &page.Items[i]
			switch secret.Labels[PartLabel] {
			case partMeta:
				loaded.Meta = secret.Data[headData]
			case partRecord:
				heads = append(heads, secret)
			case partChunk:
				pieces[secret.Name] = secret.Data[bodyData]
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	for _, secret := range heads {
		if err := s.loadRecord(ctx, secret, pieces, &loaded); err != nil {
			return Loaded{}, err
		}
	}
	s.removeChunks(ctx, slices.Collect(maps.Keys(pieces)), nil) // no record names them
	return loaded, nil
}

// loadRecord adds one record, and takes what it uses out of pieces.
func (s *Secrets) loadRecord(ctx context.Context, secret *corev1.Secret, pieces map[string][]byte, loaded *Loaded) error {
	head, record, err := readRecord(secret, pieces)
	if err != nil {
		loaded.Dropped = append(loaded.Dropped, Dropped{Name: "Secret " + secret.Name, Why: err.Error()})
		return s.remove(ctx, secret.Name)
	}
	for _, name := range head.Chunks {
		delete(pieces, name)
	}
	s.mu.Lock()
	s.chunks[record.Key] = head.Chunks
	s.mu.Unlock()
	loaded.Records = append(loaded.Records, record)
	return nil
}

func readRecord(secret *corev1.Secret, pieces map[string][]byte) (secretHead, Record, error) {
	var head secretHead
	if err := json.Unmarshal(secret.Data[headData], &head); err != nil {
		return head, Record{}, fmt.Errorf("its head does not parse: %w", err)
	}
	key := wire.Key{Kind: head.Kind, Name: head.Name}
	if secretPrefix+recordID(key) != secret.Name {
		return head, Record{}, fmt.Errorf("it says to be %s, which has another Secret", key)
	}
	body := secret.Data[bodyData]
	if len(head.Chunks) > 0 {
		var parts [][]byte
		for _, name := range head.Chunks {
			parts = append(parts, pieces[name])
		}
		body = bytes.Join(parts, nil)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != head.SHA256 {
		return head, Record{}, errors.New("its body does not have the digest that its head names")
	}
	return head, Record{Key: key, Head: head.Head, Body: body}, nil
}
