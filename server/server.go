// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server is the hub: the one place where its rooms are wired together.
// A Config comes in; Run serves agents and people until its context ends.
// Everything that the hub knows is in the apiserver, so any number of replicas
// may run, and one that is killed loses nothing.
//
// The kitchen (caches, index, writers, controllers) outlives the face (the
// listeners), so that what agents sent last is still written while they are
// asked to go.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/featuregate"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ocmfeature "open-cluster-management.io/api/feature"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/obs"
	"fairlead.dev/fairlead/internal/version"
)

// Server is one hub replica. Run may be called once.
type Server struct {
	cfg      Config
	rest     *rest.Config
	log      *slog.Logger
	registry *prometheus.Registry
	debug    atomic.Pointer[debugPlacements] // nil until the hub has started
	ready    obs.Health

	mu        sync.Mutex
	addresses Addresses
	up        chan struct{} // closed when addresses are known
}

// Addresses are what the listeners are bound to.
type Addresses struct{ Agent, Admin, HTTP, Webhook string }

// New checks the configuration and finds the apiserver's. It talks to nobody.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	config, err := loadREST(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Replica == "" {
		cfg.Replica = newReplica()
	}
	return &Server{
		cfg: cfg, rest: config, log: cfg.Log, registry: newRegistry(), up: make(chan struct{}),
	}, nil
}

// newRegistry leaves process and runtime to controller-runtime's registry, a
// global that is served with ours and has them too.
func newRegistry() *prometheus.Registry {
	registry := obs.NewRegistry(obs.HubPrefix)
	registry.Unregister(collectors.NewGoCollector())
	registry.Unregister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Addresses waits until the listeners are bound, and returns to what.
func (s *Server) Addresses(ctx context.Context) (Addresses, error) {
	select {
	case <-s.up:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.addresses, nil
	case <-ctx.Done():
		return Addresses{}, ctx.Err()
	}
}

// heeded are the feature gates that turn something on or off.
func heeded() []featuregate.Feature {
	return []featuregate.Feature{
		ocmfeature.NilExecutorValidating, ocmfeature.CleanUpCompletedManifestWork, ocmfeature.DefaultClusterSet, ocmfeature.ClusterProfile,
		ocmfeature.ResourceCleanup, ocmfeature.ManagedClusterAutoApproval, ocmfeature.PlacementDebugServer,
		ocmfeature.ManifestWorkReplicaSet, feature.SIGPlacementDecision,
	}
}

// setLibraryLogger has controller-runtime log where client-go does: it has no other
// way than one logger of the process, which is set once, however many servers run in it.
var setLibraryLogger = sync.OnceFunc(func() {
	ctrllog.SetLogger(klog.Background()) //nolint:forbidigo // see above
})

// Run serves until ctx ends, and returns when agents have been asked to leave
// and everything has stopped; nil then. Any other end is an error.
func (s *Server) Run(ctx context.Context) error {
	setLibraryLogger()
	listeners, err := s.listen(ctx)
	if err != nil {
		return err
	}
	defer listeners.close()
	s.log.Info("hub starts", "version", version.Get().Version, "replica", s.cfg.Replica,
		"agents", listeners.agent.Addr().String(), "admin", listeners.admin.Addr().String(), "http", address(listeners.http), "webhooks", address(listeners.webhook))
	if gates := s.cfg.Gates.Unheeded(heeded()...); len(gates) > 0 {
		s.log.Warn("these feature gates are known and have no effect: what they turn on or off is not built yet", "gates", strings.Join(gates, ","))
	}

	// The kitchen's context ends after the face has; either's failure ends both.
	kitchen, closeKitchen := context.WithCancelCause(context.WithoutCancel(ctx))
	defer closeKitchen(nil)
	face, closeFace := context.WithCancel(ctx)
	defer closeFace()
	defer context.AfterFunc(kitchen, closeFace)()

	err = s.open(face, kitchen, listeners, closeKitchen)
	if err == nil || isEnd(ctx, err) {
		s.log.Info("hub stopped")
		return nil
	}
	return err
}

// open runs HTTP at once, so that probes are answered while the rest starts.
func (s *Server) open(face, kitchen context.Context, listeners *listeners, closeKitchen context.CancelCauseFunc) error {
	s.ready.Add("started", func() error { return errStarting })
	tasks := []task{{"hub", func(ctx context.Context) error {
		defer closeKitchen(nil) // the rest of the kitchen has no guests any more
		h, err := s.boot(face)
		if err != nil {
			return err
		}
		s.debug.Store(&debugPlacements{placements: h.placements, config: h.rest, log: h.log})
		s.ready.Add("started", func() error { return nil })
		return h.run(ctx, face, listeners)
	}}}
	if listeners.http != nil {
		tasks = append(tasks, s.httpTask(listeners.http))
	}
	return runTasks(kitchen, tasks)
}

// listeners are bound before anything else, so that a port in use is an error
// at once; until they are served, connections wait.
type listeners struct{ agent, admin, http, webhook net.Listener }

func (s *Server) listen(ctx context.Context) (*listeners, error) {
	l := &listeners{}
	for _, b := range []struct {
		flag, address string
		to            *net.Listener
	}{
		{"agent-listen", s.cfg.AgentListen, &l.agent},
		{"admin-listen", s.cfg.AdminListen, &l.admin},
		{"http-listen", s.cfg.HTTPListen, &l.http},
		{"webhook-listen", s.cfg.WebhookListen, &l.webhook},
	} {
		if b.address == "" {
			continue
		}
		bound, err := listen(ctx, b.flag, b.address)
		if err != nil {
			l.close()
			return nil, err
		}
		*b.to = bound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = Addresses{Agent: address(l.agent), Admin: address(l.admin), HTTP: address(l.http), Webhook: address(l.webhook)}
	close(s.up)
	return l, nil
}

// address is where a listener listens, if there is one.
func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

func (l *listeners) close() {
	for _, listener := range []net.Listener{l.agent, l.admin, l.http, l.webhook} {
		if listener != nil {
			_ = listener.Close() // mostly closed by its server already
		}
	}
}

// loadREST finds the apiserver, the way every Kubernetes client does.
func loadREST(cfg Config) (*rest.Config, error) {
	config := cfg.REST
	if config == nil {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = cfg.Kubeconfig
		loaded, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig=%q: %w", cfg.Kubeconfig, err)
		}
		config = loaded
	}
	config = rest.CopyConfig(config)
	config.UserAgent = "fairlead-hub/" + version.Get().Version
	if config.QPS == 0 {
		config.QPS, config.Burst = -1, 0 // apiserver priority and fairness decides, not a guess made here
	}
	return config, nil
}
