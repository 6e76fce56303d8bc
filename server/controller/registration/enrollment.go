// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/condition"
	"fairlead.dev/fairlead/internal/kube"
)

// indexCluster finds the enrollments of a cluster in the cache.
const indexCluster = "registration.clusterName"

// enrollments is the controller "enrollment". Its key is a cluster, so that the
// enrollments of one cluster are never looked at by two at once.
type enrollments struct {
	client client.Client
	live   client.Reader
	cfg    Config
	events events.EventRecorder
	// conditions writes what is said of enrollments on ManagedClusters.
	conditions condition.Writer
	log        *slog.Logger
}

// Reconcile leads all enrollments of one cluster a step on, oldest first.
func (r *enrollments) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	list := &v1alpha1.ClusterEnrollmentList{}
	if err := r.client.List(ctx, list, client.MatchingFields{indexCluster: request.Name}); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing the enrollments of cluster %q: %w", request.Name, err)
	}
	if len(list.Items) == 0 {
		return reconcile.Result{}, nil
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.ClusterEnrollment) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	cluster, err := r.cluster(ctx, request.Name, list.Items)
	if err != nil {
		return reconcile.Result{}, err
	}
	var again time.Duration
	var rotated *metav1.Condition
	for i := range list.Items {
		p := &pass{enrollments: r, e: &list.Items[i], peers: list.Items, now: r.cfg.Clock.Now(), cluster: cluster}
		// The first error ends the round: the next one may depend on what failed.
		if err := p.run(ctx); err != nil {
			return kube.Settle(0, err)
		}
		cluster = p.cluster // accepting it has changed it
		again = sooner(again, p.again)
		if found := p.rotation(); found != nil && p.mine() {
			rotated = found // the newest enrollment's, which replaces the others
		}
	}
	if err := r.markDetached(ctx, cluster, list.Items); client.IgnoreNotFound(err) != nil {
		return kube.Settle(0, err)
	}
	return kube.Settle(again, client.IgnoreNotFound(r.tellRotation(ctx, cluster, rotated)))
}

// cluster returns the ManagedCluster, or nil if there is none of that name. A
// cache must not be the witness of absence, nor of another UID.
func (r *enrollments) cluster(ctx context.Context, name string, of []v1alpha1.ClusterEnrollment) (*clusterv1.ManagedCluster, error) {
	cluster, err := readCluster(ctx, r.client, name)
	if err != nil {
		return nil, err
	}
	for i := range of {
		if !ended(&of[i]) && (cluster == nil || of[i].Spec.ManagedClusterUID != string(cluster.UID)) {
			return readCluster(ctx, r.live, name)
		}
	}
	return cluster, nil
}

// readCluster returns a ManagedCluster, or nil if there is none of that name.
func readCluster(ctx context.Context, reader client.Reader, name string) (*clusterv1.ManagedCluster, error) {
	cluster := &clusterv1.ManagedCluster{}
	err := reader.Get(ctx, client.ObjectKey{Name: name}, cluster)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // nil is a cluster that is not there
	}
	if err != nil {
		return nil, fmt.Errorf("reading ManagedCluster %q: %w", name, err)
	}
	return cluster, nil
}

// pass is one look at one enrollment: what is known, what was decided, and what
// to tell once that is written.
type pass struct {
	*enrollments
	e       *v1alpha1.ClusterEnrollment
	peers   []v1alpha1.ClusterEnrollment // of the same cluster, e among them
	cluster *clusterv1.ManagedCluster    // nil if there is none of that name
	first   *request                     // for the first certificate, nil if not there
	renewal *request                     // for the next one, likewise
	now     time.Time

	again time.Duration
	news  []news
}

// news is told after the status has been written.
type news struct {
	eventType, reason, action, note string
}

// run takes the phases in order. Whatever a phase does outside of the status can
// be repeated; the status is written last, once.
func (p *pass) run(ctx context.Context) error {
	before := p.e.DeepCopy()
	var problem error
	for _, phase := range []func(context.Context) error{
		p.loadRequests, p.autoAccept, p.confirm, p.decide, p.signFirst, p.renew,
	} {
		if problem = phase(ctx); problem != nil {
			break
		}
	}
	if err := p.write(ctx, before); err != nil {
		return errors.Join(err, problem)
	}
	if problem != nil {
		return problem
	}
	return p.discard(ctx) // what it deletes is the ground for nothing any more
}

func (p *pass) write(ctx context.Context, before *v1alpha1.ClusterEnrollment) error {
	if equality.Semantic.DeepEqual(before.Status, p.e.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.client.Status().Patch(ctx, p.e, patch, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("writing the status of enrollment %q: %w", p.e.Name, err)
	}
	p.tell(ctx, before)
	return nil
}

// tell makes one audit line for a change of state, one for a renewal, and the
// events of the pass. The actor is the hub, on whose word it acts the line says.
func (p *pass) tell(ctx context.Context, before *v1alpha1.ClusterEnrollment) {
	audit := func(action string, more ...any) {
		p.log.InfoContext(ctx, "audit", append([]any{
			"action", action, "actor", eventSource, "cluster", p.e.Spec.ClusterName, "before", string(before.Status.State), "after", string(p.e.Status.State),
			"enrollment", p.e.Name, "pairingCode", p.e.Spec.PairingCode,
		}, more...)...)
	}
	accepted := func(e *v1alpha1.ClusterEnrollment) bool {
		return meta.IsStatusConditionTrue(e.Status.Conditions, v1alpha1.ConditionAccepted)
	}
	if accepted(p.e) && !accepted(before) {
		audit("enroll.accepted", "acceptedBy", p.e.Status.AcceptedBy)
	}
	if before.Status.State != p.e.Status.State && p.e.Status.State != v1alpha1.StateAccepted {
		audit("enroll."+strings.ToLower(string(p.e.Status.State)), "reason", p.e.Status.Reason, "acceptedBy", p.e.Status.AcceptedBy)
	}
	if next := p.e.Status.Next; next != nil && next.Serial != "" && (before.Status.Next == nil || before.Status.Next.Serial != next.Serial) {
		audit("certificate.renewed", "serial", next.Serial, "notAfter", next.NotAfter)
	}
	var regarding client.Object = p.e
	if p.mine() {
		regarding = p.cluster
	}
	for _, n := range p.news {
		p.events.Eventf(regarding, p.e, n.eventType, n.reason, n.action, "%s", n.note)
	}
}

func (p *pass) notef(reason, action, format string, args ...any) {
	p.news = append(p.news, news{corev1.EventTypeNormal, reason, action, fmt.Sprintf(format, args...)})
}

func (p *pass) warnf(reason, action, format string, args ...any) {
	p.news = append(p.news, news{corev1.EventTypeWarning, reason, action, fmt.Sprintf(format, args...)})
}

// set moves the enrollment to a state.
func (p *pass) set(state v1alpha1.EnrollmentState, reason, message string) {
	p.e.SetState(state, reason, message, metav1.NewTime(p.now))
}

// mine says whether the ManagedCluster that the enrollment is for is there.
func (p *pass) mine() bool {
	return p.cluster != nil && string(p.cluster.UID) == p.e.Spec.ManagedClusterUID
}

// wake asks for another look after d.
func (p *pass) wake(d time.Duration) { p.again = sooner(p.again, max(d, kube.ConflictDelay)) }

// sooner is the smaller of two delays of which 0 means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}
