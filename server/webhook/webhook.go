// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhook answers the apiserver's questions about what is to be stored: of
// ManifestWorks and ManifestWorkReplicaSets, whether their manifests can be
// delivered, and whether this user may have them applied as that executor; of
// ManagedClusters and ManagedClusterSetBindings, whether this user may accept the
// cluster, move it between sets, or bind the set. To a new work it adds the hub's
// finalizer, so that it is delivered once; to a cluster its set and the times of
// its taints.
//
// A client, limits and a listener come in; verdicts go out. It keeps nothing and
// needs no leader: any replica answers. It knows neither sessions nor the index.
package webhook

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Names that the manifests in deploy/hub have too.
const (
	// ConfigurationName is that of the Validating- and the
	// MutatingWebhookConfiguration that call the hub.
	ConfigurationName = "fairlead-hub"
	// ServiceName is the Service in the hub's namespace by which they do.
	ServiceName = "fairlead-hub-webhook"

	pathValidateWorks       = "/validate/manifestworks"
	pathValidateReplicaSets = "/validate/manifestworkreplicasets"
	pathMutateWorks         = "/mutate/manifestworks"
	pathValidateClusters    = "/validate/managedclusters"
	pathMutateClusters      = "/mutate/managedclusters"
	pathValidateBindings    = "/validate/managedclustersetbindings"
)

const (
	// maxInFlight bounds the memory for requests, which have at most 7 MiB each.
	maxInFlight = 32
	// patience is how long a request may take: the apiserver waits no longer.
	patience = 10 * time.Second
	// idle connections are kept for longer than the apiserver keeps them.
	idle = 2 * time.Minute
	// shutdownGrace is how long the last requests may take.
	shutdownGrace = 5 * time.Second
)

// Config is what the webhooks need.
type Config struct {
	// Client asks the apiserver what users may, and reads and patches webhook
	// configurations; past every cache.
	Client client.Client
	// ManifestLimit bounds the sum of a work's manifests in bytes.
	ManifestLimit int
	// CheckNilExecutor is the gate NilExecutorValidating, ReplicaSets the gate
	// ManifestWorkReplicaSet.
	CheckNilExecutor, ReplicaSets bool
	// DefaultSet is the gate DefaultClusterSet: clusters without a set are in the
	// set named default.
	DefaultSet bool
	// Clock gives the times of taints. Default the real one.
	Clock clock.PassiveClock
	// Served tells whether an agent of this cluster may come for its works, and
	// will take the finalizer off those that are deleted.
	Served func(ctx context.Context, cluster string) bool
	// Log gets a line for each refusal at debug level. Default slog.Default().
	Log *slog.Logger
}

// Webhooks answer admission reviews. Safe for concurrent use.
type Webhooks struct {
	cfg Config
	mux *http.ServeMux
}

// New makes the webhooks. It asks nobody anything.
func New(cfg Config) (*Webhooks, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	w := &Webhooks{cfg: cfg, mux: http.NewServeMux()}
	for path, handle := range map[string]admission.HandlerFunc{
		pathValidateWorks: w.validateWork, pathValidateReplicaSets: w.validateReplicaSet, pathMutateWorks: w.mutateWork,
		pathValidateClusters: w.validateCluster, pathMutateClusters: w.mutateCluster, pathValidateBindings: w.validateBinding,
	} {
		hook := (&admission.Webhook{Handler: handle}).WithRecoverPanic(true)
		handler, err := admission.StandaloneWebhook(hook, admission.StandaloneOptions{MetricsPath: path})
		if err != nil {
			return nil, fmt.Errorf("making the webhook %s: %w", path, err)
		}
		w.mux.Handle("POST "+path, handler)
	}
	return w, nil
}

// Serve answers on a listener until ctx ends and the last request is answered.
func (w *Webhooks) Serve(ctx context.Context, listener net.Listener, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	server := &http.Server{
		Handler:           bounded(jsonOnly(w.mux), maxInFlight),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, GetCertificate: certificate},
		ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: idle, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(w.cfg.Log.Handler(), slog.LevelWarn),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace) // ctx is over
		defer cancel()
		if err := server.Shutdown(bounded); err != nil {
			_ = server.Close() // who is not served by now asks another replica
		}
		close(closed)
	})
	err := server.ServeTLS(listener, "", "")
	if errors.Is(err, http.ErrServerClosed) && !stop() {
		<-closed
		return nil
	}
	return err
}

// jsonOnly keeps bodies that are no JSON objects from the library, which would
// take them for YAML: that costs hundreds of times its length (T74).
func jsonOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := bufio.NewReaderSize(r.Body, 16)
		if begin, err := body.Peek(1); err != nil || begin[0] != '{' {
			http.Error(w, "the body does not begin with {: send an AdmissionReview as JSON", http.StatusBadRequest)
			return
		}
		r.Body = struct {
			io.Reader
			io.Closer
		}{body, r.Body}
		next.ServeHTTP(w, r)
	})
}

// bounded lets so many requests in at a time; the others wait for as long as the
// apiserver does.
func bounded(next http.Handler, most int) http.Handler {
	slots := make(chan struct{}, most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r.WithContext(ctx))
		case <-ctx.Done():
			http.Error(w, "the hub is busy with other admission requests; try again", http.StatusServiceUnavailable)
		}
	})
}
