// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ca holds the hub's authorities: who it is (hub-id and epoch in a
// ConfigMap, an HMAC key in a Secret), the CA that signs agents' certificates,
// the CA and certificate that the hub serves with, and the signer that turns an
// accepted request into a certificate by a fixed template.
//
// A Kubernetes client and configuration come in; a hot TLS server state, a
// trust bundle and a Signer go out. Who may have a certificate is decided
// elsewhere: nothing here knows join tokens, enrollments or sessions.
package ca

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

// Names of the objects that say who the hub is.
const (
	// HubConfigMap holds hub-id and hub-epoch.
	HubConfigMap = "fairlead-hub"
	// HubIDKey and HubEpochKey are its keys.
	HubIDKey    = "hub-id"
	HubEpochKey = "hub-epoch"
	// HMACSecret holds the key, under HMACKey, with which every replica makes and
	// checks challenges and high-water proofs.
	HMACSecret = "fairlead-hub-hmac" //nolint:gosec // the name of a Secret
	HMACKey    = "key"

	hmacKeyBytes = 32
	idBytes      = 10
)

// ErrNoHubID means that there are traces of a hub in this cluster but no
// hub-id: starting with a new one would cut off every agent.
var ErrNoHubID = errors.New("the hub's id is gone")

// ErrEpochMoved means that another replica made a new epoch first.
var ErrEpochMoved = errors.New("the hub's epoch was changed by someone else")

// Hub is who this hub is, the same for all its replicas.
type Hub struct {
	ID      string
	Epoch   string
	HMACKey []byte
}

// EnsureHub reads who this hub is, and on the first start decides it. Any
// number of replicas may call it at once: the first one's choice counts. The
// client must not read Secrets or ConfigMaps from a cache. presetID is
// --hub-id, usually empty. It refuses with ErrNoHubID when ClusterEnrollments
// or an authority exist but no hub-id does, unless presetID gives it.
func EnsureHub(ctx context.Context, c client.Client, namespace, presetID string) (Hub, error) {
	if problems := validation.IsDNS1123Label(presetID); presetID != "" && len(problems) > 0 {
		return Hub{}, fmt.Errorf("hub-id %q: %s", presetID, problems[0])
	}
	config, err := ensureHubConfig(ctx, c, namespace, presetID)
	if err != nil {
		return Hub{}, err
	}
	hub := Hub{ID: config.Data[HubIDKey], Epoch: config.Data[HubEpochKey]}
	if presetID != "" && presetID != hub.ID {
		return Hub{}, fmt.Errorf("hub-id %q was given, but ConfigMap %s/%s says %q; agents know the hub by that one: leave --hub-id out or set it to %q",
			presetID, namespace, HubConfigMap, hub.ID, hub.ID)
	}
	hub.HMACKey, err = ensureHMACKey(ctx, c, namespace)
	return hub, err
}

func ensureHubConfig(ctx context.Context, c client.Client, namespace, presetID string) (*corev1.ConfigMap, error) {
	config, err := readHubConfig(ctx, c, namespace)
	if err != nil || config != nil && config.Data[HubIDKey] != "" {
		return config, err
	}
	if presetID == "" {
		if err := refuseSecondLife(ctx, c, namespace); err != nil {
			return nil, err
		}
	}
	id := presetID
	if id == "" {
		id = "hub-" + randomHex(idBytes)
	}
	fresh := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: HubConfigMap, Namespace: namespace},
		Data:       map[string]string{HubIDKey: id, HubEpochKey: randomHex(idBytes)},
	}
	if config != nil { // somebody emptied it
		fresh.ResourceVersion, fresh.UID = config.ResourceVersion, config.UID
		err = c.Update(ctx, fresh)
	} else {
		err = c.Create(ctx, fresh)
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		return ensureHubConfig(ctx, c, namespace, presetID) // another replica was first
	}
	if err != nil {
		return nil, fmt.Errorf("writing ConfigMap %s/%s: %w", namespace, HubConfigMap, err)
	}
	return fresh, nil
}

func readHubConfig(ctx context.Context, c client.Client, namespace string) (*corev1.ConfigMap, error) {
	config := &corev1.ConfigMap{}
	err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: HubConfigMap}, config)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // as its comment says
	}
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", namespace, HubConfigMap, err)
	}
	return config, nil
}

// refuseSecondLife returns ErrNoHubID when a hub has lived here before. The
// ConfigMap is read again after a trace was found, since another replica may be
// starting for the first time right now: it writes the ConfigMap before
// anything else.
func refuseSecondLife(ctx context.Context, c client.Client, namespace string) error {
	trace, formerID, err := findTrace(ctx, c, namespace)
	if err != nil || trace == "" {
		return err
	}
	if config, err := readHubConfig(ctx, c, namespace); err != nil || config != nil && config.Data[HubIDKey] != "" {
		return err
	}
	hint := "--hub-id=<the former id, e.g. of a backup>"
	if formerID != "" {
		hint = "--hub-id=" + formerID
	}
	return fmt.Errorf("%w: %s exists, but ConfigMap %s/%s has no %s; a new id would cut off every agent, so the hub does not start: restore the ConfigMap, or start once with %s",
		ErrNoHubID, trace, namespace, HubConfigMap, HubIDKey, hint)
}

func findTrace(ctx context.Context, c client.Client, namespace string) (trace, formerID string, err error) {
	var secrets corev1.SecretList
	if err := c.List(ctx, &secrets, client.InNamespace(namespace), client.HasLabels{AuthorityLabel}); err != nil {
		return "", "", fmt.Errorf("looking for authorities in %q: %w", namespace, err)
	}
	for _, secret := range secrets.Items {
		return "the authority in Secret " + secret.Name, secret.Annotations[HubIDAnnotation], nil
	}
	var enrollments v1alpha1.ClusterEnrollmentList
	err = c.List(ctx, &enrollments, client.Limit(1))
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return "", "", nil // the CRD is not installed yet
	}
	if err != nil {
		return "", "", fmt.Errorf("looking for ClusterEnrollments: %w", err)
	}
	for _, e := range enrollments.Items {
		return "ClusterEnrollment " + e.Name, e.Spec.HubID, nil
	}
	return "", "", nil
}

// NewEpoch replaces the hub's epoch by a new random one, if it still is old,
// and returns the new one. ErrEpochMoved means that it was not; read it again.
func NewEpoch(ctx context.Context, c client.Client, namespace, old string) (string, error) {
	config, err := readHubConfig(ctx, c, namespace)
	if err != nil {
		return "", err
	}
	if config == nil || config.Data[HubIDKey] == "" {
		return "", fmt.Errorf("%w: ConfigMap %s/%s", ErrNoHubID, namespace, HubConfigMap)
	}
	if config.Data[HubEpochKey] != old {
		return "", fmt.Errorf("%w: it is %q, not %q", ErrEpochMoved, config.Data[HubEpochKey], old)
	}
	config.Data[HubEpochKey] = randomHex(idBytes)
	err = c.Update(ctx, config)
	if apierrors.IsConflict(err) {
		return "", fmt.Errorf("%w: %w", ErrEpochMoved, err)
	}
	if err != nil {
		return "", fmt.Errorf("writing a new epoch to ConfigMap %s/%s: %w", namespace, HubConfigMap, err)
	}
	return config.Data[HubEpochKey], nil
}

func ensureHMACKey(ctx context.Context, c client.Client, namespace string) ([]byte, error) {
	key := make([]byte, hmacKeyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making the HMAC key: %w", err)
	}
	secret, err := ensureSecret(ctx, c, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: HMACSecret, Namespace: namespace},
		Data:       map[string][]byte{HMACKey: key},
	})
	if err != nil {
		return nil, err
	}
	if len(secret.Data[HMACKey]) < hmacKeyBytes {
		return nil, fmt.Errorf("secret %s/%s: key %q has %d bytes, want at least %d; delete the Secret and start again",
			namespace, HMACSecret, HMACKey, len(secret.Data[HMACKey]), hmacKeyBytes)
	}
	return secret.Data[HMACKey], nil
}

// ensureSecret creates want unless a Secret of that name exists, and returns
// the one that is there: of several callers at once, all get the winner's.
func ensureSecret(ctx context.Context, c client.Client, want *corev1.Secret) (*corev1.Secret, error) {
	key := client.ObjectKeyFromObject(want)
	found := &corev1.Secret{}
	err := c.Get(ctx, key, found)
	if err == nil {
		return found, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	err = c.Create(ctx, want)
	if err == nil {
		return want, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("creating Secret %s: %w", key, err)
	}
	if err := c.Get(ctx, key, found); err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return found, nil
}

func randomHex(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails; see crypto/rand
	return hex.EncodeToString(raw)
}
