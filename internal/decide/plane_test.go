// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/decide"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) {
	env.Main(m, env.Options{Name: "decide", CRDs: deploy.HubCRDs()})
}

const external = "test.example/first-fit"

// place is a namespace with a set of its own, some clusters and a Placement.
type place struct {
	client    client.WithWatch
	submitter decide.Submitter
	placement *clusterv1beta1.Placement
	clusters  []string
}

func newPlace(t *testing.T, clusters int, change ...func(*clusterv1beta1.Placement)) *place {
	t.Helper()
	plane := env.Shared(t)
	scheme := runtime.NewScheme()
	require.NoError(t, errors.Join(clientgoscheme.AddToScheme(scheme), clusterv1.Install(scheme), clusterv1beta1.Install(scheme), clusterv1beta2.Install(scheme)))
	kube, err := client.NewWithWatch(plane.RESTConfig(), client.Options{Scheme: scheme})
	require.NoError(t, err)
	p := &place{client: kube, submitter: decide.Submitter{Reader: kube, Writer: kube, Log: slog.New(slog.DiscardHandler)}}
	namespace, set := plane.Namespace(t, "decide"), plane.Unique("set")
	p.create(t, &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: set}})
	p.create(t, &clusterv1beta2.ManagedClusterSetBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: set}, Spec: clusterv1beta2.ManagedClusterSetBindingSpec{ClusterSet: set},
	})
	for range clusters {
		p.clusters = append(p.clusters, plane.Unique("cluster"))
		p.create(t, &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{
			Name: p.clusters[len(p.clusters)-1], Labels: map[string]string{clusterv1beta2.ClusterSetLabel: set},
		}})
	}
	slices.Sort(p.clusters)
	p.placement = &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}}
	for _, each := range change {
		each(p.placement)
	}
	p.create(t, p.placement)
	return p
}

func byExternal(p *clusterv1beta1.Placement) {
	p.Annotations = map[string]string{v1alpha1.AnnotationScheduler: external}
}

func (p *place) create(t *testing.T, object client.Object) {
	t.Helper()
	require.NoError(t, p.client.Create(t.Context(), object))
}

// decision is one of the hub's own scheduler.
func (p *place) decision(clusters ...string) decide.Decision {
	return decide.Decision{
		Placement: client.ObjectKeyFromObject(p.placement), UID: p.placement.UID, ObservedGeneration: p.placement.Generation, Clusters: clusters,
		Scheduler:  p.placement.Annotations[v1alpha1.AnnotationScheduler],
		Conditions: []metav1.Condition{{Type: "PlacementSatisfied", Status: metav1.ConditionTrue, Reason: "AllDecisionsScheduled", Message: "All cluster decisions scheduled"}},
	}
}

func (p *place) submit(t *testing.T, d decide.Decision) decide.Result {
	t.Helper()
	result, err := p.submitter.Submit(t.Context(), d)
	require.NoError(t, err)
	return result
}

// shown is a line for each PlacementDecision: name, group and clusters.
func (p *place) shown(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, d := range p.decisions(t) {
		names := make([]string, 0, len(d.Status.Decisions))
		for _, c := range d.Status.Decisions {
			names = append(names, c.ClusterName)
		}
		lines = append(lines, fmt.Sprintf("%s %s/%s: %s", d.Name, d.Labels[clusterv1beta1.DecisionGroupIndexLabel],
			d.Labels[clusterv1beta1.DecisionGroupNameLabel], strings.Join(names, " ")))
	}
	return lines
}

func (p *place) decisions(t *testing.T) []clusterv1beta1.PlacementDecision {
	t.Helper()
	list := &clusterv1beta1.PlacementDecisionList{}
	require.NoError(t, p.client.List(t.Context(), list, client.InNamespace(p.placement.Namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: p.placement.Name}))
	return list.Items
}

func (p *place) versions(t *testing.T) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, d := range p.decisions(t) {
		versions[d.Name] = d.ResourceVersion
	}
	require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(p.placement), p.placement))
	versions["placement"] = p.placement.ResourceVersion
	return versions
}

func TestSubmit_again_writes_nothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3)
	first := p.submit(t, p.decision(p.clusters[2], p.clusters[0]))
	require.Equal(t, decide.Result{Generation: 1, Applied: true, Changed: true, Created: []string{"web-decision-1"}}, first)
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[0] + " " + p.clusters[2]}, p.shown(t))
	before := p.versions(t)
	require.Equal(t, decide.Result{Generation: 1, Applied: true}, p.submit(t, p.decision(p.clusters[2], p.clusters[0])))
	require.Equal(t, before, p.versions(t))
	require.Equal(t, int32(2), p.placement.Status.NumberOfSelectedClusters)
	require.Equal(t, []clusterv1beta1.DecisionGroupStatus{{Decisions: []string{"web-decision-1"}, ClustersCount: 2}}, p.placement.Status.DecisionGroups)
}

func TestSubmit_nobody(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 0)
	p.submit(t, p.decision())
	found := p.decisions(t)
	require.Len(t, found, 1)
	require.NotNil(t, found[0].Status.Decisions)
	require.Empty(t, found[0].Status.Decisions)
	require.Equal(t, p.placement.UID, found[0].OwnerReferences[0].UID)
}

func TestSubmit_regroups(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 4)
	p.submit(t, p.decision(p.clusters...))
	p.change(t, func(spec *clusterv1beta1.PlacementSpec) {
		spec.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup = intstr.FromString("50%")
	})
	p.submit(t, p.decision(p.clusters[3], p.clusters[2], p.clusters[1], p.clusters[0]))
	require.Equal(t, []string{
		"web-decision-1 0/: " + p.clusters[2] + " " + p.clusters[3], "web-decision-2 1/: " + p.clusters[0] + " " + p.clusters[1],
	}, p.shown(t))
	p.submit(t, p.decision(p.clusters[0]))
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[0]}, p.shown(t))
}

func (p *place) change(t *testing.T, change func(*clusterv1beta1.PlacementSpec)) {
	t.Helper()
	require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(p.placement), p.placement))
	change(&p.placement.Spec)
	require.NoError(t, p.client.Update(t.Context(), p.placement))
}

// TestSubmit_refuses shows that what is not to be applied leaves no trace.
func TestSubmit_refuses(t *testing.T) {
	t.Parallel()
	own, theirs := newPlace(t, 2), newPlace(t, 2, byExternal, func(p *clusterv1beta1.Placement) { p.Spec.NumberOfClusters = new(int32(1)) })
	for name, tc := range map[string]struct {
		reason string
		place  *place
		change func(*decide.Decision)
		want   error
	}{
		"older generation": {"the Placement has changed", own, func(d *decide.Decision) { d.ObservedGeneration-- }, decide.ErrStale},
		"newer generation": {"the reader lags", own, func(d *decide.Decision) { d.ObservedGeneration++ }, decide.ErrConflict},
		"another UID":      {"it was made again", own, func(d *decide.Decision) { d.UID = "other" }, decide.ErrGone},
		"no placement":     {"it is gone", own, func(d *decide.Decision) { d.Placement.Name = "other" }, decide.ErrGone},
		"the hub's":        {"no external scheduler is named", own, func(d *decide.Decision) { d.Scheduler = external }, decide.ErrNotYours},
		"another's":        {"the hub's own is not named", theirs, func(d *decide.Decision) { d.Scheduler = "" }, decide.ErrNotYours},
		"too many":         {"spec.numberOfClusters", theirs, func(*decide.Decision) {}, decide.ErrInvalid},
		"too long": {"it is kept in an annotation", theirs, func(d *decide.Decision) {
			d.Explanation, d.Clusters = strings.Repeat("x", decide.MaxExplanation+1), nil
		}, decide.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			d := tc.place.decision(tc.place.clusters...)
			tc.change(&d)
			_, err := tc.place.submitter.Submit(t.Context(), d)
			require.ErrorIs(t, err, tc.want, tc.reason)
			require.Empty(t, tc.place.decisions(t))
		})
	}
	var stale *decide.StaleError
	d := own.decision()
	d.ObservedGeneration = 0
	_, err := own.submitter.Submit(t.Context(), d)
	require.ErrorAs(t, err, &stale)
	require.Equal(t, []int64{0, 1}, []int64{stale.Observed, stale.Current})
}

func TestSubmit_of_an_external_scheduler(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, byExternal)
	outside := newPlace(t, 1).clusters[0]
	d := p.decision(p.clusters[0], outside, "no-such-cluster")
	d.Term, d.RequestID, d.Explanation = 4, "one", "two are free"
	refused := p.submit(t, d)
	require.Equal(t, decide.Result{Generation: 1, Rejected: []string{outside, "no-such-cluster"}}, refused)
	require.Empty(t, p.decisions(t), "nothing is applied in part unless asked for")
	d.AllowPartial, d.DryRun = true, true
	require.True(t, p.submit(t, d).Applied)
	require.Empty(t, p.decisions(t), "a dry run writes nothing")
	d.DryRun = false
	first := p.submit(t, d)
	require.True(t, first.Applied)
	require.Equal(t, refused.Rejected, first.Rejected)
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[0]}, p.shown(t))
	record, ok := decide.RecordOf(&p.decisions(t)[0])
	require.True(t, ok)
	require.Equal(t, "two are free", record.Explanation)

	before := p.versions(t)
	require.Equal(t, "AllDecisionsScheduled", p.placement.Status.Conditions[0].Reason)
	d.ObservedGeneration, d.Clusters = 0, nil // a repeat is known by its id
	require.Equal(t, decide.Result{Generation: 1, Applied: true, Rejected: refused.Rejected}, p.submit(t, d))
	require.Equal(t, before, p.versions(t))

	next := p.decision(p.clusters[1], p.clusters[2])
	next.Term, next.RequestID = 5, "two"
	require.True(t, p.submit(t, next).Changed)
	late := p.decision(p.clusters[0])
	late.Term, late.RequestID = 4, "three"
	_, err := p.submitter.Submit(t.Context(), late)
	require.ErrorIs(t, err, decide.ErrFenced)
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[1] + " " + p.clusters[2]}, p.shown(t))

	p.versions(t)
	p.placement.Annotations = nil
	require.NoError(t, p.client.Update(t.Context(), p.placement))
	p.submit(t, p.decision(p.clusters[0]))
	require.Empty(t, p.decisions(t)[0].Annotations, "the hub's own scheduler keeps no answers")
}

// TestSubmit_paused holds a scheduler of an old term right before each of its
// writes, while one of a new term decides.
func TestSubmit_paused(t *testing.T) {
	t.Parallel()
	for writes := range 3 {
		p := newPlace(t, 4, byExternal, func(p *clusterv1beta1.Placement) {
			p.Spec.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup = intstr.FromString("50%")
		})
		d := p.decision(p.clusters...)
		d.Term, d.RequestID = 1, "start"
		p.submit(t, d)

		paused := p.submitter
		late, after := p.decision(p.clusters[0], p.clusters[1], p.clusters[2]), p.decision(p.clusters[0], p.clusters[1], p.clusters[3], p.clusters[2])
		late.Term, late.RequestID, after.Term, after.RequestID = 1, "late", 2, "after"
		count := 0
		hold := func() {
			if count++; count == writes+1 {
				p.submit(t, after)
			}
		}
		paused.Writer = interceptor.NewClient(p.client, interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
				hold()
				return c.Patch(ctx, o, patch, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
				hold()
				return c.SubResource(sub).Patch(ctx, o, patch, opts...)
			},
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				hold()
				return c.Delete(ctx, o, opts...)
			},
		})
		_, err := paused.Submit(t.Context(), late)
		require.ErrorIs(t, err, decide.ErrConflict, "paused before write %d", writes+1)
		require.Equal(t, []string{
			"web-decision-1 0/: " + p.clusters[0] + " " + p.clusters[1], "web-decision-2 1/: " + p.clusters[2] + " " + p.clusters[3],
		}, p.shown(t), "paused before write %d", writes+1)
	}
}

// TestSubmit_concurrently has many write at once: whoever is told that it won has
// all, and nobody's clusters are mixed with another's.
func TestSubmit_concurrently(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 8, byExternal, func(p *clusterv1beta1.Placement) {
		p.Spec.DecisionStrategy.GroupStrategy.ClustersPerDecisionGroup = intstr.FromString("50%")
	})
	var group sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		group.Go(func() {
			d := p.decision(p.clusters[i], p.clusters[i+4])
			d.Term, d.RequestID = 1, strconv.Itoa(i)
			_, errs[i] = p.submitter.Submit(t.Context(), d)
			for errors.Is(errs[i], decide.ErrConflict) {
				_, errs[i] = p.submitter.Submit(t.Context(), d)
			}
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	lines := p.shown(t)
	require.Len(t, lines, 2)
	record, ok := decide.RecordOf(&p.decisions(t)[0])
	require.True(t, ok)
	var last int
	_, err := fmt.Sscan(record.RequestID, &last)
	require.NoError(t, err)
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[last], "web-decision-2 1/: " + p.clusters[last+4]}, lines)
}

// TestSubmit_recreated has a Placement of the same name whose predecessor's
// decisions nobody has collected yet.
func TestSubmit_recreated(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 2)
	p.submit(t, p.decision(p.clusters...))
	before := p.decision()
	require.NoError(t, p.client.Delete(t.Context(), p.placement))
	p.placement.ObjectMeta = metav1.ObjectMeta{Namespace: p.placement.Namespace, Name: "web"}
	p.create(t, p.placement)
	_, err := p.submitter.Submit(t.Context(), before)
	require.ErrorIs(t, err, decide.ErrGone)
	p.submit(t, p.decision(p.clusters[1]))
	require.Equal(t, []string{"web-decision-1 0/: " + p.clusters[1]}, p.shown(t))
	owners := p.decisions(t)[0].OwnerReferences
	require.Len(t, owners, 1)
	require.Equal(t, p.placement.UID, owners[0].UID, "the collector has no reason to take it")
}

// TestSubmit_leaves_others_alone has objects that look like decisions and are not.
func TestSubmit_leaves_others_alone(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1)
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "web", UID: "1", Controller: new(true)}
	foreign := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.placement.Namespace, Name: "others", Labels: map[string]string{clusterv1beta1.PlacementLabel: "web"}, OwnerReferences: []metav1.OwnerReference{owner},
	}}
	p.create(t, foreign)
	p.create(t, &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.placement.Namespace, Name: "surplus", Labels: map[string]string{clusterv1beta1.PlacementLabel: "web"},
	}})
	result := p.submit(t, p.decision(p.clusters...))
	require.Equal(t, []string{"surplus"}, result.Deleted)
	require.NoError(t, p.client.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign))
	require.NoError(t, p.client.Delete(t.Context(), foreign))
	taken := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.placement.Namespace, Name: "taken-decision-1", OwnerReferences: []metav1.OwnerReference{owner},
	}}
	p.create(t, taken)
	other := &clusterv1beta1.Placement{ObjectMeta: metav1.ObjectMeta{Namespace: p.placement.Namespace, Name: "taken"}}
	p.create(t, other)
	_, err := p.submitter.Submit(t.Context(), decide.Decision{Placement: client.ObjectKeyFromObject(other), ObservedGeneration: 1})
	require.ErrorIs(t, err, decide.ErrConflict)
	require.ErrorContains(t, err, "taken-decision-1")
}
