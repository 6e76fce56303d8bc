// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/server/rpc/person"
)

var (
	managedClusters      = schema.GroupVersion(clusterv1.GroupVersion).WithResource("managedclusters")
	addOnPlacementScores = schema.GroupVersion(clusterv1alpha1.GroupVersion).WithResource("addonplacementscores")
)

// WatchClusters tells a scheduler what it may choose from: each cluster that its
// selector matches and that is not being deleted, with the scores that it has. The
// caller must be allowed to list managedclusters; scores are told to those who may
// list addonplacementscores in all namespaces.
func (s *Service) WatchClusters(r *schedulerv1.WatchClustersRequest, stream grpc.ServerStreamingServer[schedulerv1.WatchClustersResponse]) error {
	who, err := s.callers.Of(stream.Context())
	if err != nil {
		return err
	}
	selector, err := labels.Parse(r.GetLabelSelector())
	if err != nil {
		return invalid("label_selector %q: %v", r.GetLabelSelector(), err)
	}
	scored, err := who.May(stream.Context(), listAll(addOnPlacementScores.Resource))
	if err != nil {
		return err
	}
	waits := new(atomic.Int64)
	f := &follower{
		Service: s, waits: waits, watch: watchOf("clusters", selector.String(), strconv.FormatBool(scored)),
		reporter: &clusterWatch{Service: s, who: who, selector: selector, scored: scored, stream: reader[schedulerv1.WatchClustersResponse]{stream, waits}},
		kinds: []kind{{
			resource: managedClusters, selector: selector.String(),
			key: func(o *metav1.PartialObjectMetadata) (types.NamespacedName, bool) {
				return types.NamespacedName{Name: o.Name}, true
			},
		}},
	}
	if scored {
		f.kinds = append(f.kinds, kind{
			resource: addOnPlacementScores,
			key: func(o *metav1.PartialObjectMetadata) (types.NamespacedName, bool) {
				return types.NamespacedName{Name: o.Namespace}, true
			},
		})
	}
	return s.watches.Run(stream.Context(), func(ctx context.Context) error {
		return f.serve(ctx, func(ctx context.Context) error { return f.run(ctx, r.GetResumeToken()) })
	})
}

// listAll asks for the right to list a kind of cluster.open-cluster-management.io
// everywhere.
func listAll(resource string) authorizationv1.ResourceAttributes {
	return authorizationv1.ResourceAttributes{Verb: "list", Group: clusterv1.GroupName, Resource: resource}
}

// clusterWatch implements reporter.
type clusterWatch struct {
	*Service
	who      *person.Person
	selector labels.Selector
	scored   bool
	stream   grpc.ServerStreamingServer[schedulerv1.WatchClustersResponse]
}

func (w *clusterWatch) authorize(ctx context.Context) error {
	if err := w.who.Allowed(ctx, listAll(managedClusters.Resource)); err != nil || !w.scored {
		return err
	}
	return w.who.Allowed(ctx, listAll(addOnPlacementScores.Resource))
}

func (*clusterWatch) begin(bool) {}

func (w *clusterWatch) tell(ctx context.Context, from client.Reader, key types.NamespacedName, wanted *want) (bool, error) {
	gone := &schedulerv1.WatchClustersResponse{Event: &schedulerv1.WatchClustersResponse_Removed{Removed: key.Name}}
	if wanted.primary != nil && wanted.primary.deleted {
		return true, w.stream.Send(gone)
	}
	var cluster clusterv1.ManagedCluster
	switch err := from.Get(ctx, client.ObjectKey{Name: key.Name}, &cluster); {
	case apierrors.IsNotFound(err):
		return wanted.primary == nil, nil // it comes, or its deletion does
	case err != nil:
		return false, person.Error(err, "reading cluster %q", key.Name)
	}
	if wanted.primary != nil && !wanted.primary.in(&cluster) {
		return false, nil
	}
	switch {
	case !w.selector.Matches(labels.Set(cluster.Labels)):
		return true, nil // that it left the selector comes as a deletion
	case !cluster.DeletionTimestamp.IsZero():
		return true, w.stream.Send(gone)
	}
	var scores clusterv1alpha1.AddOnPlacementScoreList
	if w.scored {
		if err := from.List(ctx, &scores, client.InNamespace(key.Name)); err != nil {
			return false, person.Error(err, "listing the scores of cluster %q", key.Name)
		}
		if !seen(wanted.parts, byName(scores.Items)) {
			return false, nil
		}
	}
	message := w.message(&cluster, scores.Items)
	return true, w.stream.Send(&schedulerv1.WatchClustersResponse{Event: &schedulerv1.WatchClustersResponse_Upsert{Upsert: message}})
}

func byName(scores []clusterv1alpha1.AddOnPlacementScore) map[string]*clusterv1alpha1.AddOnPlacementScore {
	out := make(map[string]*clusterv1alpha1.AddOnPlacementScore, len(scores))
	for i := range scores {
		out[scores[i].Name] = &scores[i]
	}
	return out
}

// message leaves out scores whose time is over: they count as none (PL-36).
func (w *clusterWatch) message(c *clusterv1.ManagedCluster, scores []clusterv1alpha1.AddOnPlacementScore) *schedulerv1.Cluster {
	out := &schedulerv1.Cluster{
		Name: c.Name, Uid: string(c.UID), Labels: c.Labels, Claims: map[string]string{}, Allocatable: map[string]string{},
		Available: string(metav1.ConditionUnknown), Scores: map[string]int64{},
	}
	for _, claim := range c.Status.ClusterClaims {
		out.Claims[claim.Name] = claim.Value
	}
	for name, quantity := range c.Status.Allocatable {
		out.Allocatable[string(name)] = quantity.String()
	}
	for _, taint := range c.Spec.Taints {
		out.Taints = append(out.Taints, &schedulerv1.Taint{Key: taint.Key, Value: taint.Value, Effect: string(taint.Effect)})
	}
	if available := meta.FindStatusCondition(c.Status.Conditions, clusterv1.ManagedClusterConditionAvailable); available != nil {
		out.Available = string(available.Status)
	}
	if seen := w.LastSeen(c.Name); !seen.IsZero() {
		out.LastSeen = timestamppb.New(seen)
	}
	for i := range scores {
		if until := scores[i].Status.ValidUntil; until != nil && until.Time.Before(w.Now()) {
			continue
		}
		for _, score := range scores[i].Status.Scores {
			out.Scores[fmt.Sprintf("%s/%s", scores[i].Name, score.Name)] = int64(score.Value)
		}
	}
	return out
}

func (w *clusterWatch) bookmark(mark *schedulerv1.Bookmark) error {
	return w.stream.Send(&schedulerv1.WatchClustersResponse{Event: &schedulerv1.WatchClustersResponse_Bookmark{Bookmark: mark}})
}

func (w *clusterWatch) reset(why string) error {
	return w.stream.Send(&schedulerv1.WatchClustersResponse{Event: &schedulerv1.WatchClustersResponse_Reset_{Reset_: &schedulerv1.Reset{Reason: why}}})
}
