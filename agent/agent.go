// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ocmfeature "open-cluster-management.io/api/feature"

	"fairlead.dev/fairlead/agent/cluster"
	"fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/agent/store"
	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/agent/work/feedback"
	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/obs"
	"fairlead.dev/fairlead/internal/wire"
)

// Agent is one agent. Make it with New, then call Run once.
type Agent struct {
	cfg         Config
	controllers map[string]bool
	log         *slog.Logger
	spoke       *spoke
	dialer      *dialer.Dialer
	files       *enroll.Files // nil unless somebody else keeps the identity
	registry    *prometheus.Registry
	metrics     *link.Metrics
	ready       obs.Health

	hubID    *latch // known once a hub has answered, ever
	enrolled *latch
	store    *store.Store
	inbound  *inbound
	outbound *outbound
	leave    chan struct{} // the hub has removed this cluster

	work     atomic.Pointer[work.Controller]
	cluster  atomic.Pointer[cluster.Watcher]
	spaces   atomic.Pointer[cluster.Namespaces]
	notAfter atomic.Pointer[func() time.Time]
	// unidentified is why the agent has no identity, while it has none.
	unidentified atomic.Pointer[error]
}

// New checks the configuration and makes clients. It talks to nobody.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	controllers, err := cfg.controllers()
	if err != nil {
		return nil, err
	}
	if cfg.Join != "" { // a join string that cannot work is best said at once
		if _, err := enroll.New(enroll.Config{Join: cfg.Join, ClusterName: cfg.ClusterName}); err != nil {
			return nil, err
		}
	}
	a := &Agent{cfg: cfg, controllers: controllers, log: cfg.Log, registry: obs.NewRegistry(obs.AgentPrefix), hubID: newLatch(), enrolled: newLatch(), leave: make(chan struct{}, 1)}
	a.metrics = link.NewMetrics(a.registry)
	if cfg.ownFiles() {
		if a.files, err = enroll.NewFiles(enroll.FilesConfig{ClusterName: cfg.ClusterName, CertFile: cfg.ClientCert, KeyFile: cfg.ClientKey, Root: cfg.HubCA}); err != nil {
			return nil, err
		}
	}
	if a.dialer, err = dialer.New(dialer.Config{ProxyURL: cfg.ProxyURL, ProxyCAFile: cfg.ProxyCAFile}); err != nil {
		return nil, fmt.Errorf("--proxy-url, --proxy-ca-file: %w", err)
	}
	if a.spoke, err = newSpoke(&a.cfg); err != nil {
		return nil, err
	}
	a.ready.Add("store", a.notYet)
	return a, nil
}

func (a *Agent) notYet() error { return errors.New("the store is not read yet") }

// Run runs the agent until ctx ends; that is no error. What the hub delivered is
// reconciled from the first moment, whether the hub can be reached or not.
func (a *Agent) Run(ctx context.Context) error {
	if gates := a.cfg.Gates.Unheeded(ocmfeature.ClusterClaim, ocmfeature.ClusterProperty, ocmfeature.ExecutorValidatingCaches, ocmfeature.RawFeedbackJsonString); len(gates) > 0 {
		a.log.Warn("these feature gates are known and have no effect: what they turn on or off is not built yet", "gates", strings.Join(gates, ","))
	}
	return runTasks(ctx, []task{
		{"http", a.serveHTTP},
		{"agent", a.run},
	})
}

func (a *Agent) run(ctx context.Context) error {
	fingerprint, err := a.fingerprint(ctx)
	if err != nil {
		return err
	}
	backend, vault, err := a.backends(ctx)
	if err != nil {
		return err
	}
	if err := a.open(ctx, backend); err != nil {
		return err
	}
	tasks := []task{
		{"store", a.store.Run},
		{"removed works", a.outbound.run},
		{"removal of the cluster", a.removeWorkloads},
		{"hub", func(ctx context.Context) error { return a.connect(ctx, vault, fingerprint) }},
	}
	if a.controllers[ControllerWork] {
		tasks = append(tasks, task{"work", a.runWork})
	}
	if a.controllers[ControllerCluster] {
		tasks = append(tasks, task{"cluster", a.runCluster}, task{"managed namespaces", a.runNamespaces})
	}
	return runTasks(ctx, tasks)
}

// open reads the store, which everything else is about.
func (a *Agent) open(ctx context.Context, backend store.Backend) error {
	s, err := store.Open(ctx, store.Config{
		Backend: backend, Log: a.log.With("room", "store"), Clock: clock.RealClock{}, Grace: a.cfg.EvictionGrace,
		Changed: a.changed, HeldChanged: a.reportCluster,
	})
	if err != nil {
		return err
	}
	a.store = s
	a.hubID.set(s.Snapshot().HubID)
	a.inbound = &inbound{store: s, hubID: a.hubID, synced: a.synced}
	a.outbound = newOutbound(s, a.log)
	a.observe()
	a.log.Info("the store is read", "works", len(s.Keys(wire.KindWork)), "hub", a.hubID.get())
	return nil
}

// runWork reconciles works once it is known whose they are: their inventories
// are named after the hub.
func (a *Agent) runWork(ctx context.Context) error {
	if err := a.installCRDs(ctx); err != nil {
		return err
	}
	hubID, err := a.hubID.wait(ctx)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(hubID))
	controller, err := work.New(work.Config{
		REST: a.spoke.works, HubHash: hex.EncodeToString(hash[:]), AgentID: a.cfg.AgentID,
		Source: a.outbound, Reporter: a.outbound, StatusSyncInterval: a.cfg.StatusSyncInterval,
		Workers:       a.cfg.WorkWorkers,
		MaxDeleteRate: a.cfg.MaxDeleteRate,
		EvictionGrace: a.cfg.EvictionGrace, InSync: a.outbound.inSync, HeldChanged: a.reportCluster,
		Feedback:      feedback.Limits{RawJSON: a.cfg.Gates.Enabled(ocmfeature.RawFeedbackJsonString), RawLength: a.cfg.MaxJSONRawLength},
		ExecutorCache: a.cfg.Gates.Enabled(ocmfeature.ExecutorValidatingCaches),
		Logger:        a.log.With("room", "work"),
	})
	if err != nil {
		return err
	}
	a.work.Store(controller)
	return controller.Run(ctx)
}

func (a *Agent) runCluster(ctx context.Context) error {
	cfg := cluster.Config{
		Kube: a.spoke.kube, Log: a.log.With("room", "cluster"), Clock: clock.RealClock{}, Period: a.cfg.ClusterPeriod, Changed: a.reportCluster,
		Dynamic: a.spoke.dynamic, Claims: a.cfg.Gates.Enabled(ocmfeature.ClusterClaim), Properties: a.cfg.Gates.Enabled(ocmfeature.ClusterProperty),
		MaxClaims: a.cfg.MaxClaims, ReservedSuffixes: a.cfg.ReservedClaimSuffixes, Event: a.warn,
	}
	watcher, err := cluster.New(cfg)
	if err != nil {
		return err
	}
	a.cluster.Store(watcher)
	return watcher.Run(ctx)
}

// warn makes a Warning in the agent's namespace on the spoke.
func (a *Agent) warn(ctx context.Context, why, note string) {
	a.spokeEvent(ctx, corev1.EventTypeWarning, why, note)
}

// spokeEvent makes an event in the agent's namespace on the spoke; one that
// cannot be made is only logged.
func (a *Agent) spokeEvent(ctx context.Context, kind, why, note string) {
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "fairlead-agent-", Namespace: a.cfg.Namespace},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: a.cfg.Namespace, Namespace: a.cfg.Namespace},
		Type:           kind, Reason: why, Message: note, Source: corev1.EventSource{Component: "fairlead-agent"},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	if _, err := a.spoke.kube.CoreV1().Events(a.cfg.Namespace).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		a.log.Debug("an event could not be made", "reason", why, "error", err)
	}
}

// changed tells the work controller of a key whose stored object changed.
func (a *Agent) changed(key wire.Key) {
	if spaces := a.spaces.Load(); spaces != nil && key.Kind == wire.KindClusterConfig {
		spaces.Nudge()
	}
	if controller := a.work.Load(); controller != nil && key.Kind == wire.KindWork {
		controller.Enqueue(key.Name)
	}
}

// resend has every status reported again.
func (a *Agent) resend() {
	if controller := a.work.Load(); controller != nil {
		controller.ResendAll()
	}
}

// synced has every work looked at that another instance was in charge of, and what has no work any more.
func (a *Agent) synced() {
	a.outbound.leaving.Store(false) // the hub has this cluster again
	if controller := a.work.Load(); controller != nil {
		controller.Sweep()
	}
	if a.outbound.resumed() {
		a.resend()
	}
}

// reportCluster has the next ClusterReport sent.
func (a *Agent) reportCluster() {
	if a.outbound == nil {
		return
	}
	if l := a.outbound.link.Load(); l != nil {
		l.ReportCluster()
	}
}

// report is what the hub is told about the spoke.
func (a *Agent) report() link.ClusterReport {
	report := link.ClusterReport{APIServerHealthy: true}
	if watcher := a.cluster.Load(); watcher != nil {
		f := watcher.Facts()
		report = link.ClusterReport{
			KubernetesVersion: f.Version, Claims: f.Claims, Capacity: f.Capacity, Allocatable: f.Allocatable,
			APIServerHealthy: f.Healthy || f.Observed.IsZero(), Observed: f.Observed,
		}
	}
	if spaces := a.spaces.Load(); spaces != nil {
		report.Namespaces = spaces.State()
	}
	for _, batch := range a.store.Held() {
		report.Held = append(report.Held, link.HeldBatch{ID: batch.ID, Reason: string(batch.Reason), Entries: batch.Entries, Since: batch.Since})
	}
	if controller := a.work.Load(); controller != nil {
		report.Held = append(report.Held, heldEvictions(controller.Evictions())...)
	}
	return report
}
