// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hub tests the whole hub, in this process, against a real apiserver and
// with an agent that speaks the protocol by hand: what it sends and receives is
// exactly what a test says.
package hub

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/controller"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "hub", CRDs: deploy.HubCRDs()}) }

// patience bounds every wait; real time, so it is long.
const patience = 60 * time.Second

// aSecond is how long what should take a second may take: beside other tests, under
// -race, what tells it from waiting for a heartbeat.
func aSecond() time.Duration { return house.Scaled(10*time.Second, time.Second) }

// unhurried is how long something may take that has so many seconds in a soak: half a
// minute at least, beside other tests and under -race.
func unhurried(limit time.Duration) time.Duration {
	return house.Scaled(max(limit, 30*time.Second), limit)
}

// running is a hub in this process.
type running struct {
	t         *testing.T
	config    *rest.Config
	kube      client.Client // everything is allowed
	addresses server.Addresses
	admin     *desk // of somebody who may do everything, where a test has one
	stop      func()
}

// startHub runs a hub until the test ends or stop is called. The plane has the
// CRDs: to install them takes a hub longer than the rest of its start.
func startHub(t *testing.T, config *rest.Config, change func(*server.Config)) *running {
	t.Helper()
	cfg := server.Default()
	cfg.REST = config
	cfg.AgentListen, cfg.AdminListen, cfg.HTTPListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Log = slog.New(slog.NewTextHandler(logWriter(t), &slog.HandlerOptions{Level: slog.LevelDebug}))
	if change != nil {
		change(&cfg)
	}
	hub, err := server.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- hub.Run(ctx) }()
	var stopped bool
	r := &running{t: t, config: config, kube: kubeClient(t, config)}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err, "the hub's own end")
		case <-time.After(patience):
			t.Fatal("the hub does not stop")
		}
	}
	t.Cleanup(r.stop)
	r.addresses, err = hub.Addresses(t.Context())
	require.NoError(t, err)
	return r
}

// journal is a log that tests can read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// logWriter is the test's log, shown when the test fails.
func logWriter(t *testing.T) io.Writer {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "hub-*.log")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(file.Name())
			t.Logf("the hub's log:\n%s", text)
		}
		_ = file.Close()
	})
	return file
}

func kubeClient(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, controller.AddToScheme(scheme))
	require.NoError(t, workv1.Install(scheme))
	c, err := client.New(config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	return c
}

// get reads an HTTP path of the hub.
func (r *running) get(path string) (int, string) {
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.addresses.HTTP+path, http.NoBody)
	require.NoError(r.t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	return response.StatusCode, string(text)
}

// ready waits until the hub serves agents.
func (r *running) ready() *running {
	r.t.Helper()
	until(r.t, "the hub to be ready", func() error {
		code, text := r.get("/readyz?verbose")
		if code != http.StatusOK {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	return r
}

// token makes a join token that accepts by itself or waits for a person.
func (r *running) token(cluster string, autoAccept bool) string {
	r.t.Helper()
	tokens := enroll.NewTokens(r.kube, identity.HubNamespace, clock.RealClock{})
	_, presented, err := tokens.Create(r.t.Context(), enroll.Policy{ClusterName: cluster, AutoAccept: autoAccept}, "tester")
	require.NoError(r.t, err)
	return presented
}

// accept is what kubectl would do: set hubAcceptsClient and approve the CSR.
func (r *running) accept(cluster, csr string) {
	r.t.Helper()
	ctx := r.t.Context()
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"hubAcceptsClient":true}}`))
	require.NoError(r.t, r.kube.Patch(ctx, &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster}}, patch))
	people, err := kubernetes.NewForConfig(r.config)
	require.NoError(r.t, err)
	require.NoError(r.t, retry.RetryOnConflict(retry.DefaultBackoff, func() error { // the hub writes it too
		object, err := people.CertificatesV1().CertificateSigningRequests().Get(ctx, csr, metav1.GetOptions{})
		if err != nil {
			return err
		}
		object.Status.Conditions = append(object.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test",
		})
		_, err = people.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr, object, metav1.UpdateOptions{})
		return err
	}))
}

// until waits for check to return nil.
func until(t *testing.T, what string, check func() error) {
	t.Helper()
	untilWithin(t, patience, what, check)
}

func untilWithin(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	var last error
	for n := 0; time.Now().Before(deadline); n++ {
		if last = check(); last == nil {
			return
		}
		house.Pause(t.Context(), n)
		require.NoError(t, t.Context().Err())
	}
	t.Fatalf("waited for %s: %s", what, strings.TrimSpace(last.Error()))
}
