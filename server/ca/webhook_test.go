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
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"fairlead.dev/fairlead/server/ca"
)

// lag is how long the apiserver takes to act by what it has stored.
const lag = 5 * time.Second

// bundle is what the apiserver trusts: soon what is stored, and until then what
// was.
type bundle struct {
	clock          clock.PassiveClock
	mu             sync.Mutex
	stored, before []*x509.Certificate
	changed        time.Time
}

func (b *bundle) publish(_ context.Context, root *x509.Certificate, keepOthers bool) (trusted bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	trusted = slices.ContainsFunc(b.stored, root.Equal)
	wanted := b.stored
	switch {
	case !keepOthers:
		wanted = []*x509.Certificate{root}
	case !trusted:
		wanted = append(slices.Clip(b.stored), root)
	}
	if len(wanted) != len(b.stored) {
		b.before, b.stored, b.changed = b.acting(), wanted, b.clock.Now()
	}
	return trusted, nil
}

// acting is what counts now. The lock is held.
func (b *bundle) acting() []*x509.Certificate {
	if b.clock.Since(b.changed) < lag {
		return b.before
	}
	return b.stored
}

func (b *bundle) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.acting())
}

// call is what the apiserver does: it verifies the certificate that it is shown.
func (b *bundle) call(t *testing.T, w *ca.Webhooks, now time.Time) (leaf *x509.Certificate, err error) {
	t.Helper()
	cert, err := w.GetCertificate(nil)
	require.NoError(t, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	pool := x509.NewCertPool()
	for _, root := range b.acting() {
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
	fake := clocktesting.NewFakeClock(time.Now())
	apiserver := &bundle{clock: fake}
	var replicas []*ca.Webhooks
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range 2 {
		w, err := ca.NewWebhooks(ctx, ca.Config{Client: c, Namespace: namespace, Hub: hub, ServingNames: []string{"webhook.hub.svc"}, Clock: fake}, apiserver.publish)
		require.NoError(t, err)
		replicas = append(replicas, w)
		group.Go(func() { _ = w.Run(ctx, nil) })
	}
	require.Eventually(t, func() bool {
		fake.Step(time.Second)
		return apiserver.size() == 1
	}, time.Minute, 10*time.Millisecond)

	var serials []string
	call := func() (now []string) {
		for _, w := range replicas {
			leaf, err := apiserver.call(t, w, fake.Now())
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
			now := call() // what happened since the last step
			if fake.HasWaiters() {
				fake.Step(step)
			}
			call()
			return now[0] != serials[0] && now[1] != serials[1]
		}, time.Minute, 20*time.Millisecond)
	}
	require.NotEqual(t, call()[0], call()[1], "each replica has a key of its own")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fairlead-ca-webhook"}}
	require.NoError(t, c.Delete(t.Context(), secret))
	renewed(10 * time.Second)
	require.Equal(t, 2, apiserver.size(), "the former authority is trusted for a while")
	require.Eventually(t, func() bool {
		if fake.HasWaiters() {
			fake.Step(time.Minute)
		}
		call()
		return apiserver.size() == 1
	}, time.Minute, 20*time.Millisecond, "and no longer")

	fake.Step(21 * 24 * time.Hour)
	renewed(10 * time.Second)
}
