// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/identity"
)

// ledger remembers of each object that this package makes no more than whether
// it is still as made: a digest of what we own in it. An informer cache would
// hold six whole objects for each cluster, which is more than a session needs.
// Where the ledger finds a difference, the object is read from the apiserver.
//
// Reflectors feed it (follow.go); what they see wakes the cluster's controller.
type ledger struct {
	cfg Config

	mu      sync.Mutex
	entries map[ref]entry
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request] // nil until the controller starts
	synced  chan struct{}                                           // closed when every kind was listed once
	listed  map[kind]bool
}

// kind is one of the kinds that are followed.
type kind string

const (
	kindNamespace          kind = "namespaces"
	kindClusterRole        kind = "clusterroles"
	kindClusterRoleBinding kind = "clusterrolebindings"
	kindRoleBinding        kind = "rolebindings"
)

func kinds() []kind {
	return []kind{kindNamespace, kindClusterRole, kindClusterRoleBinding, kindRoleBinding}
}

// ref names an object.
type ref struct {
	kind            kind
	namespace, name string
}

// entry is what is remembered of it.
type entry struct {
	digest  digest
	cluster string // whose it is, by its label
	leaving bool   // it has a deletion timestamp
}

type digest [16]byte

func newLedger(cfg Config) *ledger {
	return &ledger{cfg: cfg, entries: map[ref]entry{}, synced: make(chan struct{}), listed: map[kind]bool{}}
}

// asWanted says whether the object is there, stays there, and is as wanted.
func (l *ledger) asWanted(wanted client.Object) (bool, error) {
	want, err := l.digest(wanted)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	have, ok := l.entries[refOf(wanted)]
	return ok && !have.leaving && have.digest == want, nil
}

// has says whether an object of that name is there.
func (l *ledger) has(like client.Object) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.entries[refOf(like)]
	return ok
}

// put notes an object as it was seen.
func (l *ledger) put(o client.Object) error {
	seen, err := l.digest(o)
	if err != nil {
		return err
	}
	r := refOf(o)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeLocked(r) // whose it was, if somebody has changed the label
	l.entries[r] = entry{digest: seen, cluster: o.GetLabels()[identity.ClusterNameLabel], leaving: o.GetDeletionTimestamp() != nil}
	l.wakeLocked(r)
	return nil
}

// drop notes that an object is gone.
func (l *ledger) drop(r ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeLocked(r)
	delete(l.entries, r)
}

// keepOnly drops what a full list of a kind did not show.
func (l *ledger) keepOnly(k kind, present map[ref]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.entries {
		if r.kind == k && !present[r] {
			l.wakeLocked(r)
			delete(l.entries, r)
		}
	}
	l.listed[k] = true
	select {
	case <-l.synced:
	default:
		if len(l.listed) == len(kinds()) {
			close(l.synced)
		}
	}
}

func (l *ledger) wakeLocked(r ref) {
	if l.queue == nil {
		return
	}
	if r.kind == kindClusterRole && (r.name == registrationRole || r.name == workRole) {
		l.queue.Add(sharedKey())
	} else if cluster := l.entries[r].cluster; cluster != "" {
		l.queue.Add(requests(cluster)[0])
	}
}

// Start implements source.Source: from now on changes wake the controller, and
// so does all that is known already.
func (l *ledger) Start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = queue
	for r := range l.entries {
		l.wakeLocked(r)
	}
	return nil
}

// WaitForSync implements source.SyncingSource.
func (l *ledger) WaitForSync(ctx context.Context) error {
	select {
	case <-l.synced:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for namespaces and RBAC to be listed: %w", context.Cause(ctx))
	}
}

var _ fmt.Stringer = (*ledger)(nil)

// String is what the manager prints of this source, and reads while others write it:
// so it is a name, and not the content.
func (*ledger) String() string { return "namespaces and RBAC" }

func refOf(o client.Object) ref {
	r := ref{namespace: o.GetNamespace(), name: o.GetName()}
	switch o.(type) {
	case *corev1.Namespace:
		r.kind = kindNamespace
	case *rbacv1.ClusterRole:
		r.kind = kindClusterRole
	case *rbacv1.ClusterRoleBinding:
		r.kind = kindClusterRoleBinding
	case *rbacv1.RoleBinding:
		r.kind = kindRoleBinding
	}
	return r
}

// owned is what we decide about in an object.
type owned struct {
	Labels    map[string]string   `json:"labels"`
	Finalizer bool                `json:"finalizer"`
	Rules     []rbacv1.PolicyRule `json:"rules"`
	RoleRef   rbacv1.RoleRef      `json:"roleRef"`
	Subjects  []rbacv1.Subject    `json:"subjects"`
}

// digest covers what we own in an object: the same for what we want and for
// what is there, whatever others have added to it.
func (l *ledger) digest(o client.Object) (digest, error) {
	labels := o.GetLabels()
	mine := owned{
		Labels:    map[string]string{identity.ClusterNameLabel: labels[identity.ClusterNameLabel]},
		Finalizer: slices.Contains(o.GetFinalizers(), identity.ManifestWorkFinalizer),
	}
	for key := range l.cfg.Labels {
		mine.Labels[key] = labels[key]
	}
	switch o := o.(type) {
	case *corev1.Namespace:
		mine.Finalizer = false
	case *rbacv1.ClusterRole:
		mine.Labels[ManagedByLabel], mine.Rules = labels[ManagedByLabel], o.Rules
	case *rbacv1.ClusterRoleBinding:
		mine.Labels[ManagedByLabel], mine.RoleRef, mine.Subjects = labels[ManagedByLabel], o.RoleRef, o.Subjects
	case *rbacv1.RoleBinding:
		mine.Labels[ManagedByLabel], mine.RoleRef, mine.Subjects = labels[ManagedByLabel], o.RoleRef, o.Subjects
	}
	content, err := json.Marshal(mine)
	if err != nil {
		return digest{}, fmt.Errorf("digesting %T %q: %w", o, o.GetName(), err)
	}
	sum := sha256.Sum256(content)
	return digest(sum[:len(digest{})]), nil
}

// selector limits what is followed of a kind to what we make.
func (k kind) selector(options *metav1.ListOptions) {
	options.LabelSelector = ManagedByLabel + "=" + ManagedBy
	if k == kindNamespace {
		options.LabelSelector = identity.ClusterNameLabel
	}
}
