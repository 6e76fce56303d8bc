// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/restmapper"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	ocmfeature "open-cluster-management.io/api/feature"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/server/session"
	"fairlead.dev/fairlead/server/store"
)

const (
	// startingRetry is what agents are told while the hub starts.
	startingRetry = 2 * time.Second
	// heartbeatMost is the longest interval of heartbeats (c14).
	heartbeatMost = 20 * time.Second
	// heartbeatLeast does for a leaseDurationSeconds of 1.
	heartbeatLeast = 300 * time.Millisecond
	// kindsPoll is how often missing CRDs are looked for, kindsReminder how often
	// it is said that they are missing.
	kindsPoll     = 2 * time.Second
	kindsReminder = 5 * time.Minute
)

// admission is what decides who is served; it needs kinds that may be missing
// when the hub starts.
type admission struct {
	clusters *store.Clusters
	enroll   *enroll.Service
}

// openAdmission waits for the CRDs of ManagedCluster and ClusterEnrollment, and
// then for their caches. With certificate authentication nothing is needed.
func (h *house) openAdmission(ctx context.Context) error {
	if h.cfg.AgentAuth == AuthCertificate {
		return nil
	}
	if err := h.waitForKinds(ctx); err != nil {
		return err
	}
	clusters, err := store.NewClusters(ctx, store.ClustersConfig{Cache: h.cache, Config: h.agents, Clock: clock.RealClock{}, Log: h.log})
	if err != nil {
		return err
	}
	clusters.OnChange(h.service.Sessions().Recheck)
	clusters.OnConfig(func(cluster string) {
		revision, _ := wire.ClusterConfig{}.Encode()
		h.index.Mark(cluster, store.Mark{Key: wire.ConfigKey(), LastUID: revision.UID})
	})
	agents, err := client.New(h.agents, client.Options{Scheme: h.scheme})
	if err != nil {
		return fmt.Errorf("making a client that writes for agents: %w", err)
	}
	service, err := enroll.New(ctx, enroll.Config{
		Hub: h.direct, Agents: agents, Cache: h.cache, Namespace: h.cfg.Namespace, AutoApprove: h.autoApproves,
		HubID: h.hub.ID, HMACKey: h.hub.HMACKey, Limits: enroll.Limits{RenewalsPerMinute: renewals(h.cfg.CertificateLifetime)},
		Events: h.event, Clock: h.cfg.Clock, Log: h.log,
	})
	if err != nil {
		return err
	}
	if !h.cache.WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	h.admission.Store(&admission{clusters: clusters, enroll: service})
	return nil
}

// autoApproves tells whether a user's join tokens let clusters in by themselves.
func (h *house) autoApproves(user string) bool {
	return h.cfg.Gates.Enabled(ocmfeature.ManagedClusterAutoApproval) && slices.Contains(h.cfg.AutoApprovalUsers, user)
}

// renewals is how often a minute one cluster may renew: five times, and more
// where certificates live so shortly that an agent needs it.
func renewals(lifetime time.Duration) int {
	const least, perLife = 5, 5
	return max(least, int(perLife*time.Minute/max(lifetime, time.Second)))
}

func (h *house) waitForKinds(ctx context.Context) error {
	ticker := time.NewTicker(kindsPoll)
	defer ticker.Stop()
	var told time.Time
	for {
		missing := h.missingKinds()
		if missing == nil {
			return nil
		}
		if time.Since(told) > kindsReminder {
			told = time.Now()
			h.log.Warn("no agent is served yet; the hub waits for CRDs (start it with --install-crds, or install them)", "error", missing)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// missingKinds asks anew each time: a cached answer would say "missing" for long.
func (h *house) missingKinds() error {
	found, err := discovery.NewDiscoveryClientForConfig(h.rest)
	if err != nil {
		return err
	}
	groups, err := restmapper.GetAPIGroupResources(found)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	var missing []error
	for _, kind := range []schema.GroupVersionKind{
		schema.GroupVersion(clusterv1.GroupVersion).WithKind("ManagedCluster"),
		v1alpha1.GroupVersion().WithKind("ClusterEnrollment"),
	} {
		if _, err := mapper.RESTMapping(kind.GroupKind(), kind.Version); meta.IsNoMatchError(err) {
			missing = append(missing, fmt.Errorf("kind %s is not served", kind.GroupKind()))
		} else if err != nil {
			missing = append(missing, err)
		}
	}
	return errors.Join(missing...)
}

// gate implements agent.Gate.
type gate struct{ *house }

// Ready implements agent.Gate.
func (g gate) Ready() error {
	if g.draining.Load() {
		return rpcerr.New(codes.Unavailable, reason.Draining, "this replica is going away; try another").RetryIn(startingRetry)
	}
	for _, check := range g.conditions() {
		if err := check.check(); err != nil {
			return rpcerr.New(codes.Unavailable, check.reason, "the hub is not ready: %s: %v", check.name, err).RetryIn(startingRetry)
		}
	}
	return nil
}

// Check implements agent.Gate.
func (g gate) Check(ctx context.Context, caller *authz.Caller) error {
	admission := g.admission.Load()
	if admission == nil {
		return nil // certificate authentication: the certificate is all there is
	}
	cert, err := caller.Certificate()
	if err != nil {
		return err
	}
	_, err = admission.enroll.Check(ctx, cert)
	return refusal(err)
}

// Heartbeat implements agent.Gate.
func (g gate) Heartbeat(cluster string) time.Duration {
	if g.cfg.HeartbeatInterval > 0 {
		return g.cfg.HeartbeatInterval
	}
	if admission := g.admission.Load(); admission != nil {
		if c, ok := admission.clusters.Get(context.Background(), cluster); ok { // reads memory
			return max(min(c.LeaseDuration/3, heartbeatMost), heartbeatLeast)
		}
	}
	return heartbeatMost
}

// Hub implements agent.Gate.
func (g gate) Hub() *session.Hub { return g.shared.Load() }

// Restored implements agent.Gate.
func (g gate) Restored(ctx context.Context, mark wire.HighWater) (bool, error) {
	return g.restored(ctx, mark)
}

// verify is the interceptors' question about a certificate.
func (h *house) verify(ctx context.Context, cert *x509.Certificate, named identity.Agent) (interceptor.Verified, error) {
	if err := (gate{h}).Ready(); err != nil {
		return interceptor.Verified{}, err
	}
	admission := h.admission.Load()
	if admission == nil {
		return interceptor.Verified{UID: named.UID}, nil
	}
	verified, err := admission.enroll.Authenticate(ctx, cert)
	if err != nil {
		return interceptor.Verified{}, refusal(err)
	}
	return interceptor.Verified{UID: verified.Agent.UID, Enrollment: verified.Enrollment}, nil
}

// refusal is what enrollment refused, as the face says it; other errors stay
// what they are.
func refusal(err error) error {
	if refused, ok := errors.AsType[*enroll.Error](err); ok {
		return rpcerr.Refusal(refused.Reason, refused.Message, refused.RetryAfter, refused.Err)
	}
	return err
}

type condition struct {
	name   string
	reason string // what agents are told while it is not so
	check  func() error
}

var (
	errNotYet  = errors.New("not synced yet")
	errCut     = errors.New("the apiserver does not answer")
	errMissing = errors.New("waiting for ManagedCluster and ClusterEnrollment to be served and read")
)

// conditions are what has to be true before a session may exist.
func (h *house) conditions() []condition {
	when := func(ok bool, otherwise error) error {
		if ok {
			return nil
		}
		return otherwise
	}
	return []condition{
		{"admission", reason.HubStarting, func() error {
			return when(h.admission.Load() != nil || h.cfg.AgentAuth == AuthCertificate, errMissing)
		}},
		{"works index", reason.HubStarting, func() error { return when(h.index.Synced() && h.index.Current(), errNotYet) }},
		{"session leases", reason.HubStarting, func() error { return when(h.sessions.Synced(), errNotYet) }},
		{"apiserver", reason.ApiserverLost, func() error { return when(!h.cutOff.Load(), errCut) }},
	}
}

// checks puts the conditions into /readyz.
func (h *house) checks() {
	for _, c := range h.conditions() {
		h.ready.Add(c.name, c.check)
	}
	h.ready.Add("not draining", func() error {
		if h.draining.Load() {
			return errors.New("this replica is going away")
		}
		return nil
	})
}
