// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/server/ca"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "ca"}) }

// newClient returns an uncached client and a namespace for one test.
func newClient(t *testing.T) (c client.Client, namespace string) {
	t.Helper()
	cfg := env.Shared(t).RESTConfig()
	require.NoError(t, env.InstallCRDs(t.Context(), cfg, deploy.HubCRDs()...))
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	require.NoError(t, err)
	namespace = strings.ToLower(strings.NewReplacer("_", "-", "/", "-").Replace(t.Name()))
	require.NoError(t, kube.EnsureNamespace(t.Context(), c, namespace))
	return c, namespace
}

func start(ctx context.Context, c client.Client, namespace string) (ca.Hub, *ca.Authorities, error) {
	hub, err := ca.EnsureHub(ctx, c, namespace, "")
	if err != nil {
		return ca.Hub{}, nil, err
	}
	authorities, err := ca.New(ctx, ca.Config{Client: c, Namespace: namespace, Hub: hub, ServingNames: []string{"hub.test"}})
	return hub, authorities, err
}

func TestReplicasStartingAtOnceAreOneHub(t *testing.T) {
	c, namespace := newClient(t)
	const replicas = 8
	var hubs [replicas]ca.Hub
	var pins [replicas]string
	var errs [replicas]error
	var group sync.WaitGroup
	for i := range replicas {
		group.Go(func() {
			var authorities *ca.Authorities
			hubs[i], authorities, errs[i] = start(t.Context(), c, namespace)
			if errs[i] == nil {
				pins[i] = authorities.RootSHA256()
			}
		})
	}
	group.Wait()
	for i := range replicas {
		require.NoError(t, errs[i])
		require.Equal(t, hubs[0], hubs[i], "one id, one epoch, one HMAC key")
		require.Equal(t, pins[0], pins[i], "one serving authority")
	}
	require.Len(t, hubs[0].HMACKey, 32)

	hub, authorities, err := start(t.Context(), c, namespace)
	require.NoError(t, err)
	require.Equal(t, hubs[0], hub, "a restart keeps all of it")
	require.Equal(t, pins[0], authorities.RootSHA256())
}

func TestHubIDGoneIsRefused(t *testing.T) {
	c, namespace := newClient(t)
	hub, _, err := start(t.Context(), c, namespace)
	require.NoError(t, err)
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ca.HubConfigMap, Namespace: namespace}}
	require.NoError(t, c.Delete(t.Context(), config))

	_, err = ca.EnsureHub(t.Context(), c, namespace, "")
	require.ErrorIs(t, err, ca.ErrNoHubID)
	require.ErrorContains(t, err, "--hub-id="+hub.ID, "the error says how to go on")

	again, err := ca.EnsureHub(t.Context(), c, namespace, hub.ID)
	require.NoError(t, err)
	require.Equal(t, hub.ID, again.ID)
	require.Equal(t, hub.HMACKey, again.HMACKey)
	require.NotEqual(t, hub.Epoch, again.Epoch, "nobody knows the former epoch, so it is a new one")

	_, err = ca.EnsureHub(t.Context(), c, namespace, "another-hub")
	require.ErrorContains(t, err, hub.ID, "--hub-id does not rename a hub")
	_, err = ca.EnsureHub(t.Context(), c, namespace, "Not_A_Label")
	require.Error(t, err)
}

func TestClusterEnrollmentWithoutHubIDIsRefused(t *testing.T) {
	c, namespace := newClient(t)
	enrollment := &v1alpha1.ClusterEnrollment{
		ObjectMeta: metav1.ObjectMeta{Name: "spoke-1-abcd-efgh-ijkl"},
		Spec: v1alpha1.ClusterEnrollmentSpec{
			ClusterName: "spoke-1", HubID: "hub-former", ManagedClusterUID: "u", AgentName: "a",
			KeySHA256: strings.Repeat("ab", 32), PublicKey: "AA==", PairingCode: "ABCD-EFGH-IJKL", CSRName: "spoke-1-abcd-efgh-ijkl",
		},
	}
	require.NoError(t, c.Create(t.Context(), enrollment))
	t.Cleanup(func() { require.NoError(t, c.Delete(context.WithoutCancel(t.Context()), enrollment)) })
	_, err := ca.EnsureHub(t.Context(), c, namespace, "")
	require.ErrorIs(t, err, ca.ErrNoHubID)
	require.ErrorContains(t, err, "--hub-id=hub-former")
}

func TestAuthorityOfAnotherHubIsRefused(t *testing.T) {
	c, namespace := newClient(t)
	hub, _, err := start(t.Context(), c, namespace)
	require.NoError(t, err)
	hub.ID = "hub-other"
	_, err = ca.New(t.Context(), ca.Config{Client: c, Namespace: namespace, Hub: hub, ServingNames: []string{"hub.test"}})
	require.ErrorContains(t, err, "hub-other")
}

func TestNewEpochIsACompareAndSwap(t *testing.T) {
	c, namespace := newClient(t)
	hub, err := ca.EnsureHub(t.Context(), c, namespace, "")
	require.NoError(t, err)
	const replicas = 5
	var epochs [replicas]string
	var errs [replicas]error
	var group sync.WaitGroup
	for i := range replicas {
		group.Go(func() { epochs[i], errs[i] = ca.NewEpoch(t.Context(), c, namespace, hub.Epoch) })
	}
	group.Wait()
	won := 0
	for i := range replicas {
		if errs[i] == nil {
			won++
			hub.Epoch = epochs[i]
			continue
		}
		require.ErrorIs(t, errs[i], ca.ErrEpochMoved)
	}
	require.Equal(t, 1, won)
	again, err := ca.EnsureHub(t.Context(), c, namespace, "")
	require.NoError(t, err)
	require.Equal(t, hub, again)
}

func TestLifetimesOutOfRangeAreRefused(t *testing.T) {
	for _, lifetime := range []time.Duration{time.Minute, 8 * 24 * time.Hour, -time.Hour} {
		_, err := ca.New(t.Context(), ca.Config{CertificateLifetime: lifetime})
		require.ErrorContains(t, err, "want between", lifetime)
	}
}
