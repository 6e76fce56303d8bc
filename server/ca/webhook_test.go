// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto/x509"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"fairlead.dev/fairlead/server/ca"
)

// bundle is what the apiserver trusts.
type bundle struct {
	mu    sync.Mutex
	roots []*x509.Certificate
}

func (b *bundle) publish(_ context.Context, root *x509.Certificate, keepOthers bool) (trusted bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	trusted = slices.ContainsFunc(b.roots, root.Equal)
	switch {
	case !keepOthers:
		b.roots = []*x509.Certificate{root}
	case !trusted:
		b.roots = append(b.roots, root)
	}
	return trusted, nil
}

func (b *bundle) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.roots)
}

// call is what the apiserver does: it verifies the certificate that it is shown.
func (b *bundle) call(t *testing.T, w *ca.Webhooks, now time.Time) (leaf *x509.Certificate, err error) {
	t.Helper()
	cert, err := w.GetCertificate(nil)
	require.NoError(t, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	pool := x509.NewCertPool()
	for _, root := range b.roots {
		pool.AddCert(root)
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "webhook.hub.svc", CurrentTime: now})
	return cert.Leaf, err
}

// Two replicas serve one authority's certificates. Their certificates are renewed
// before they end, and when somebody makes an authority anew, no call fails.
func TestWebhookCertificates(t *testing.T) {
	c, namespace := newClient(t)
	hub, err := ca.EnsureHub(t.Context(), c, namespace, "")
	require.NoError(t, err)
	clock, apiserver := clocktesting.NewFakeClock(time.Now()), &bundle{}
	var replicas []*ca.Webhooks
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range 2 {
		w, err := ca.NewWebhooks(ctx, ca.Config{Client: c, Namespace: namespace, Hub: hub, ServingNames: []string{"webhook.hub.svc"}, Clock: clock}, apiserver.publish)
		require.NoError(t, err)
		replicas = append(replicas, w)
		group.Go(func() { _ = w.Run(ctx, nil) })
	}
	require.Eventually(t, func() bool { return apiserver.size() == 1 }, 30*time.Second, 10*time.Millisecond)

	var serials []string
	call := func() (now []string) {
		for _, w := range replicas {
			leaf, err := apiserver.call(t, w, clock.Now())
			require.NoError(t, err)
			now = append(now, leaf.SerialNumber.String())
		}
		return now
	}
	// renewed steps the clock until both certificates are others, calling all the time.
	renewed := func(step time.Duration) {
		t.Helper()
		serials = call()
		require.Eventually(t, func() bool {
			if clock.HasWaiters() {
				clock.Step(step)
			}
			now := call()
			return now[0] != serials[0] && now[1] != serials[1]
		}, 30*time.Second, 20*time.Millisecond)
	}
	require.NotEqual(t, call()[0], call()[1], "each replica has a key of its own")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fairlead-ca-webhook"}}
	require.NoError(t, c.Delete(t.Context(), secret))
	renewed(10 * time.Second)
	require.Equal(t, 2, apiserver.size(), "the former authority is trusted for a while")
	require.Eventually(t, func() bool {
		if clock.HasWaiters() {
			clock.Step(time.Minute)
		}
		call()
		return apiserver.size() == 1
	}, 30*time.Second, 20*time.Millisecond, "and no longer")

	clock.Step(21 * 24 * time.Hour)
	renewed(10 * time.Second)
}
