// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/test/env"
)

func secretsIn(t *testing.T, namespace string) corev1client.SecretInterface {
	t.Helper()
	cfg := env.Shared(t).RESTConfig()
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	require.NoError(t, err)
	made, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: namespace + "-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return client.CoreV1().Secrets(made.Name)
}

func list(t *testing.T, client corev1client.SecretInterface, part string) []corev1.Secret {
	t.Helper()
	found, err := client.List(t.Context(), metav1.ListOptions{LabelSelector: PartLabel + "=" + part})
	require.NoError(t, err)
	return found.Items
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	client := secretsIn(t, "store-contract")
	contract(t, func() *Store { return open(t, NewSecrets(client), nil) })
	require.Len(t, list(t, client, partRecord), 3)
	require.Len(t, list(t, client, partMeta), 1)
	require.Len(t, list(t, client, partChunk), 2, "a bit over 512 KiB is two pieces; those of the older revision are gone")
}

// cutting stops writing after some calls, as a SIGKILL does.
type cutting struct {
	corev1client.SecretInterface
	left int
}

func (c *cutting) Create(ctx context.Context, secret *corev1.Secret, options metav1.CreateOptions) (*corev1.Secret, error) {
	if c.left--; c.left < 0 {
		return nil, errDisk
	}
	return c.SecretInterface.Create(ctx, secret, options)
}

func (c *cutting) Update(ctx context.Context, secret *corev1.Secret, options metav1.UpdateOptions) (*corev1.Secret, error) {
	if c.left--; c.left < 0 {
		return nil, errDisk
	}
	return c.SecretInterface.Update(ctx, secret, options)
}

func TestSecretsCutShortLeaveTheOldRevision(t *testing.T) {
	t.Parallel()
	client := secretsIn(t, "store-cut")
	s := open(t, NewSecrets(client), nil)
	welcome(t, s, "e1", 1)
	old := noise(wire.MaxObject)
	require.NoError(t, s.Put(t.Context(), work("a"), revOf("uid-a", 1, old), old))
	next := append([]byte("x"), old[:wire.MaxObject-1]...)
	for calls := range 4 {
		s := open(t, NewSecrets(&cutting{SecretInterface: client, left: calls}), nil)
		err := s.Put(t.Context(), work("a"), revOf("uid-a", 2, next), next)
		reread := open(t, NewSecrets(client), nil)
		require.Empty(t, reread.Dropped())
		got := content(t, reread, "a")
		if err != nil {
			require.Equal(t, string(old), got, "after %d calls", calls)
			require.Len(t, list(t, client, partChunk), 3, "pieces that no record names are removed when the store is read")
			continue
		}
		require.Equal(t, string(next), got)
	}
}

// chunkless takes no chunks, and all else.
type chunkless struct{ corev1client.SecretInterface }

func (c *chunkless) Create(ctx context.Context, secret *corev1.Secret, options metav1.CreateOptions) (*corev1.Secret, error) {
	if secret.Labels[PartLabel] == partChunk {
		return nil, errDisk
	}
	return c.SecretInterface.Create(ctx, secret, options)
}

func TestSecretsWriteNoHeadWithoutItsChunks(t *testing.T) {
	t.Parallel()
	client := secretsIn(t, "store-chunkless")
	s := open(t, NewSecrets(client), nil)
	welcome(t, s, "e1", 1)
	old, next := noise(wire.MaxObject), noise(wire.MaxObject-1)
	require.NoError(t, s.Put(t.Context(), work("a"), revOf("uid-a", 1, old), old))
	s = open(t, NewSecrets(&chunkless{client}), nil)
	require.ErrorIs(t, s.Put(t.Context(), work("a"), revOf("uid-a", 2, next), next), errDisk)
	require.Equal(t, string(old), content(t, open(t, NewSecrets(client), nil), "a"))
}

func TestSecretsDamage(t *testing.T) {
	t.Parallel()
	client := secretsIn(t, "store-damage")
	s := open(t, NewSecrets(client), nil)
	welcome(t, s, "e1", 1)
	put(t, s, "a", 1, "content of a")
	put(t, s, "b", 1, "content of b")
	big := noise(wire.MaxObject)
	require.NoError(t, s.Put(t.Context(), work("big"), revOf("uid-big", 1, big), big))

	secret, err := client.Get(t.Context(), secretPrefix+recordID(work("a")), metav1.GetOptions{})
	require.NoError(t, err)
	secret.Data[bodyData] = []byte("edited by hand")
	_, err = client.Update(t.Context(), secret, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, client.Delete(t.Context(), list(t, client, partChunk)[0].Name, metav1.DeleteOptions{}))

	s = open(t, NewSecrets(client), nil)
	require.Len(t, s.Dropped(), 2)
	require.Len(t, s.Keys(wire.KindWork), 1)
	require.Empty(t, list(t, client, partChunk))
}
