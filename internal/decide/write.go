// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

// writer makes the objects of one Placement be what one Decision says.
type writer struct {
	Submitter

	placement *clusterv1beta1.Placement
	decision  Decision
	result    Result

	have   map[string]*clusterv1beta1.PlacementDecision // as they are on the apiserver
	want   map[string]*clusterv1beta1.PlacementDecision // labels, owner and clusters
	groups []clusterv1beta1.DecisionGroupStatus
}

// write brings the PlacementDecisions in line.
func (w *writer) write(ctx context.Context, own map[string]*clusterv1beta1.PlacementDecision, groups []group) error {
	w.have = own
	w.plan(groups)
	if err := w.fence(ctx); err != nil {
		return err
	}
	c := &change{
		have: map[string]sets.Set[string]{}, want: map[string]sets.Set[string]{}, visit: map[string]bool{}, spare: w.spare(),
	}
	for name, have := range w.have {
		c.have[name] = clusterNames(have)
		if want := w.want[name]; want == nil || !looksLike(have, want) || !equality.Semantic.DeepEqual(have.Status, want.Status) || have.Status.Decisions == nil {
			c.visit[name] = true
		}
	}
	for name, want := range w.want {
		c.want[name] = clusterNames(want)
		if w.have[name] == nil {
			c.visit[name] = true
		}
	}
	for _, s := range c.steps() {
		if err := w.step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// plan says which objects there are to be (PL-41, PL-42, PL-44).
func (w *writer) plan(groups []group) {
	w.want = map[string]*clusterv1beta1.PlacementDecision{}
	w.groups = make([]clusterv1beta1.DecisionGroupStatus, 0, len(groups))
	for index, g := range groups {
		status := clusterv1beta1.DecisionGroupStatus{
			DecisionGroupIndex: int32(index), DecisionGroupName: g.name, Decisions: []string{}, ClustersCount: int32(len(g.clusters)), //nolint:gosec // counts of clusters
		}
		parts := slices.Collect(slices.Chunk(g.clusters, MaxClusters))
		if len(parts) == 0 {
			parts = [][]string{nil}
		}
		for _, part := range parts {
			want := w.object(nameOf(w.placement, len(w.want)+1), index, g.name)
			for _, cluster := range part {
				want.Status.Decisions = append(want.Status.Decisions, clusterv1beta1.ClusterDecision{ClusterName: cluster})
			}
			w.want[want.Name] = want
			status.Decisions = append(status.Decisions, want.Name)
		}
		w.groups = append(w.groups, status)
	}
}

func nameOf(placement *clusterv1beta1.Placement, n int) string {
	return placement.Name + "-decision-" + strconv.Itoa(n)
}

// object is a PlacementDecision without clusters.
func (w *writer) object(name string, index int, groupName string) *clusterv1beta1.PlacementDecision {
	made := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: w.placement.Namespace, Name: name,
		Labels: map[string]string{
			clusterv1beta1.PlacementLabel:          w.placement.Name,
			clusterv1beta1.DecisionGroupIndexLabel: strconv.Itoa(index),
			clusterv1beta1.DecisionGroupNameLabel:  groupName,
		},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(w.placement, schema.GroupVersion(clusterv1beta1.GroupVersion).WithKind("Placement"))},
	}}
	if w.decision.Scheduler != "" {
		made.Annotations = map[string]string{v1alpha1.AnnotationTerm: term(w.decision)}
	}
	made.Status.Decisions = []clusterv1beta1.ClusterDecision{}
	return made
}

// spare makes names behind all that there are or are to be.
func (w *writer) spare() func() string {
	last := len(w.want)
	for name := range w.have {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, w.placement.Name+"-decision-")); err == nil {
			last = max(last, n)
		}
	}
	return func() string { last++; return nameOf(w.placement, last) }
}

func clusterNames(decision *clusterv1beta1.PlacementDecision) sets.Set[string] {
	names := sets.New[string]()
	for _, d := range decision.Status.Decisions {
		names.Insert(d.ClusterName)
	}
	return names
}

// looksLike says whether labels, owner and annotations are as wanted. Those of
// others are no concern of ours, but an answer to an external scheduler is.
func looksLike(have, want *clusterv1beta1.PlacementDecision) bool {
	for key, value := range want.Labels {
		if is, ok := have.Labels[key]; !ok || is != value {
			return false
		}
	}
	_, answered := have.Annotations[v1alpha1.AnnotationDecision]
	external := want.Annotations[v1alpha1.AnnotationTerm] != ""
	return have.Annotations[v1alpha1.AnnotationTerm] == want.Annotations[v1alpha1.AnnotationTerm] && (external || !answered) &&
		equality.Semantic.DeepEqual(metav1.GetControllerOf(have), &want.OwnerReferences[0])
}

// likened is have with labels, owner and annotations as wanted.
func likened(have, want *clusterv1beta1.PlacementDecision) *clusterv1beta1.PlacementDecision {
	changed := have.DeepCopy()
	if changed.Labels == nil {
		changed.Labels = map[string]string{}
	}
	maps.Copy(changed.Labels, want.Labels)
	changed.OwnerReferences = slices.DeleteFunc(changed.OwnerReferences, func(owner metav1.OwnerReference) bool {
		return owner.UID == want.OwnerReferences[0].UID || owner.Controller != nil && *owner.Controller
	})
	changed.OwnerReferences = append(changed.OwnerReferences, want.OwnerReferences...)
	if external := want.Annotations[v1alpha1.AnnotationTerm]; external != "" {
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, v1alpha1.AnnotationTerm, external)
	} else {
		delete(changed.Annotations, v1alpha1.AnnotationTerm)
		delete(changed.Annotations, v1alpha1.AnnotationDecision)
	}
	return changed
}

// step makes one object have its clusters.
func (w *writer) step(ctx context.Context, s step) error {
	have, want := w.have[s.object], w.want[s.object]
	if s.remove {
		return w.remove(ctx, have)
	}
	if s.spare != "" {
		want = w.object(s.object, 0, "")
		maps.Copy(want.Labels, w.have[s.spare].Labels)
	}
	var err error
	if have == nil {
		if have, err = w.create(ctx, want); err != nil {
			return err
		}
	}
	if !looksLike(have, want) {
		if have, err = w.patch(ctx, have, likened(have, want)); err != nil {
			return err
		}
	}
	decisions := make([]clusterv1beta1.ClusterDecision, 0, len(s.clusters))
	for _, cluster := range sets.List(s.clusters) {
		decisions = append(decisions, clusterv1beta1.ClusterDecision{ClusterName: cluster})
	}
	if have.Status.Decisions != nil && equality.Semantic.DeepEqual(have.Status.Decisions, decisions) {
		return nil
	}
	return w.fill(ctx, have, decisions)
}

// fill writes the clusters of an object.
func (w *writer) fill(ctx context.Context, have *clusterv1beta1.PlacementDecision, decisions []clusterv1beta1.ClusterDecision) error {
	changed := have.DeepCopy()
	changed.Status.Decisions = decisions
	patch := client.MergeFromWithOptions(have, client.MergeFromWithOptimisticLock{})
	if err := w.Writer.Status().Patch(ctx, changed, patch, client.FieldOwner(FieldManager)); err != nil {
		return err
	}
	w.updated(changed)
	return nil
}

// drop takes clusters out of the objects that there are, and says how many others
// they have. The groups of the status stay, with the clusters that are left.
func (w *writer) drop(ctx context.Context, drop sets.Set[string]) (selected int, err error) {
	left := sets.New[string]()
	for _, name := range slices.Sorted(maps.Keys(w.have)) {
		decisions := slices.DeleteFunc(slices.Clone(w.have[name].Status.Decisions), func(d clusterv1beta1.ClusterDecision) bool {
			return drop.Has(d.ClusterName)
		})
		if len(decisions) < len(w.have[name].Status.Decisions) {
			if err := w.fill(ctx, w.have[name], decisions); err != nil {
				return 0, err
			}
		}
		left = left.Union(clusterNames(w.have[name]))
	}
	w.groups = slices.Clone(w.placement.Status.DecisionGroups)
	for i := range w.groups {
		g := &w.groups[i]
		g.ClustersCount = 0
		for _, name := range g.Decisions {
			if have := w.have[name]; have != nil {
				g.ClustersCount += int32(len(have.Status.Decisions)) //nolint:gosec // at most MaxClusters
			}
		}
	}
	return left.Len(), nil
}

func (w *writer) create(ctx context.Context, want *clusterv1beta1.PlacementDecision) (*clusterv1beta1.PlacementDecision, error) {
	made := want.DeepCopy()
	if err := w.Writer.Create(ctx, made, client.FieldOwner(FieldManager)); err != nil {
		return nil, err
	}
	made.Status.Decisions = nil // the apiserver takes it as a status only
	w.have[made.Name] = made
	w.result.Created, w.result.Changed = append(w.result.Created, made.Name), true
	w.Log.InfoContext(ctx, "placement decision created", "namespace", made.Namespace, "decision", made.Name)
	return made, nil
}

// patch writes labels, owner and annotations of an object.
func (w *writer) patch(ctx context.Context, have, changed *clusterv1beta1.PlacementDecision) (*clusterv1beta1.PlacementDecision, error) {
	patch := client.MergeFromWithOptions(have, client.MergeFromWithOptimisticLock{})
	if err := w.Writer.Patch(ctx, changed, patch, client.FieldOwner(FieldManager)); err != nil {
		return nil, err
	}
	w.updated(changed)
	return changed, nil
}

func (w *writer) updated(changed *clusterv1beta1.PlacementDecision) {
	w.have[changed.Name] = changed
	w.result.Changed = true
	if !slices.Contains(w.result.Created, changed.Name) && !slices.Contains(w.result.Updated, changed.Name) {
		w.result.Updated = append(w.result.Updated, changed.Name)
	}
}

func (w *writer) remove(ctx context.Context, have *clusterv1beta1.PlacementDecision) error {
	if !have.DeletionTimestamp.IsZero() {
		return nil // somebody's finalizer holds it
	}
	uid, version := have.UID, have.ResourceVersion
	if err := w.Writer.Delete(ctx, have, client.Preconditions{UID: &uid, ResourceVersion: &version}); err != nil {
		return err
	}
	delete(w.have, have.Name)
	w.result.Deleted, w.result.Changed = append(w.result.Deleted, have.Name), true
	w.Log.InfoContext(ctx, "placement decision deleted", "namespace", have.Namespace, "decision", have.Name)
	return nil
}

// status writes the Placement's own (PL-50).
func (w *writer) status(ctx context.Context, wanted []metav1.Condition, selected int, groups []clusterv1beta1.DecisionGroupStatus) error {
	changed := w.placement.DeepCopy()
	changed.Status.NumberOfSelectedClusters = int32(selected) //nolint:gosec // a count of clusters
	changed.Status.DecisionGroups = groups
	setConditions(changed, wanted, w.Clock.Now())
	if equality.Semantic.DeepEqual(w.placement.Status, changed.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(w.placement, client.MergeFromWithOptimisticLock{})
	if err := w.Writer.Status().Patch(ctx, changed, patch, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("writing the status of the placement: %w", err)
	}
	w.result.Changed = true
	return nil
}
