// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

var (
	placements         = schema.GroupVersion(clusterv1beta1.GroupVersion).WithResource("placements")
	placementDecisions = schema.GroupVersion(clusterv1beta1.GroupVersion).WithResource("placementdecisions")
)

// WatchPlacements tells a scheduler the placements that name it and are not being
// deleted, with what is decided now. The caller must be allowed to use the
// scheduler, or to list placements everywhere; where it may not, it is told of
// namespaces in which it may.
func (s *Service) WatchPlacements(r *schedulerv1.WatchPlacementsRequest, stream grpc.ServerStreamingServer[schedulerv1.WatchPlacementsResponse]) error {
	who, err := s.callers.Of(stream.Context())
	if err != nil {
		return err
	}
	if err := checkScheduler(r.GetSchedulerName()); err != nil {
		return err
	}
	waits := new(atomic.Int64)
	f := &follower{
		Service: s, waits: waits, watch: watchOf("placements", r.GetSchedulerName()),
		reporter: &placementWatch{Service: s, who: who, scheduler: r.GetSchedulerName(), stream: reader[schedulerv1.WatchPlacementsResponse]{stream, waits}},
		kinds: []kind{
			{resource: placements, key: func(o *metav1.PartialObjectMetadata) (types.NamespacedName, bool) {
				return types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, true
			}},
			{resource: placementDecisions, key: func(o *metav1.PartialObjectMetadata) (types.NamespacedName, bool) {
				name := o.Labels[clusterv1beta1.PlacementLabel]
				return types.NamespacedName{Namespace: o.Namespace, Name: name}, name != ""
			}},
		},
	}
	return s.watches.Run(stream.Context(), func(ctx context.Context) error {
		return f.serve(ctx, func(ctx context.Context) error { return f.run(ctx, r.GetResumeToken()) })
	})
}

// checkScheduler gives an error unless that can be a scheduler's name.
func checkScheduler(name string) error {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return rpcerr.New(codes.InvalidArgument, reason.InvalidName, "scheduler_name %q is not an RFC 1123 label: lower-case letters, digits and '-', at most 63", name)
	}
	return nil
}

// placementWatch implements reporter.
type placementWatch struct {
	*Service
	who       *person.Person
	scheduler string
	stream    grpc.ServerStreamingServer[schedulerv1.WatchPlacementsResponse]

	everywhere bool            // the caller may list placements in all namespaces
	namespaces map[string]bool // where not: whether it may in this one
	resumed    bool
	told       map[types.NamespacedName]bool // whether the reader has it; unknown after a resume
}

// authorize asks anew for all namespaces that came up. What changed in between
// begins the watch anew.
func (w *placementWatch) authorize(ctx context.Context) error {
	everywhere, err := w.who.May(ctx, listAll(placements.Resource))
	if err != nil {
		return err
	}
	if !everywhere {
		if err := w.who.Allowed(ctx, person.Virtual("use", "schedulers", w.scheduler)); err != nil {
			return err
		}
	}
	changed := everywhere != w.everywhere && w.told != nil
	w.everywhere = everywhere
	for namespace, could := range w.namespaces {
		can, err := w.ask(ctx, namespace)
		if err != nil {
			return err
		}
		changed = changed || can != could && !everywhere
	}
	if changed {
		return &anew{"your rights to list placements have changed"}
	}
	return nil
}

func (w *placementWatch) ask(ctx context.Context, namespace string) (bool, error) {
	return w.who.May(ctx, authorizationv1.ResourceAttributes{Verb: "list", Group: clusterv1.GroupName, Resource: placements.Resource, Namespace: namespace})
}

// may tells whether the caller may know of placements there.
func (w *placementWatch) may(ctx context.Context, namespace string) (bool, error) {
	if w.everywhere {
		return true, nil
	}
	if can, asked := w.namespaces[namespace]; asked {
		return can, nil
	}
	can, err := w.ask(ctx, namespace)
	if err == nil {
		w.namespaces[namespace] = can
	}
	return can, err
}

func (w *placementWatch) begin(resumed bool) {
	w.resumed, w.told, w.namespaces = resumed, map[types.NamespacedName]bool{}, map[string]bool{}
}

func (w *placementWatch) tell(ctx context.Context, from client.Reader, key types.NamespacedName, wanted *want) (bool, error) {
	var placement clusterv1beta1.Placement
	if wanted.primary != nil && wanted.primary.deleted {
		return true, w.remove(ctx, key, "")
	}
	switch err := from.Get(ctx, key, &placement); {
	case apierrors.IsNotFound(err):
		return wanted.primary == nil, nil // it comes, or its deletion does
	case err != nil:
		return false, person.Error(err, "reading placement %s", key)
	}
	if wanted.primary != nil && !wanted.primary.in(&placement) {
		return false, nil
	}
	if placement.Annotations[v1alpha1.AnnotationScheduler] != w.scheduler || !placement.DeletionTimestamp.IsZero() {
		return true, w.remove(ctx, key, string(placement.UID))
	}
	if may, err := w.may(ctx, key.Namespace); err != nil || !may {
		return true, err
	}
	var decisions clusterv1beta1.PlacementDecisionList
	if err := from.List(ctx, &decisions, client.InNamespace(key.Namespace), client.MatchingLabels{clusterv1beta1.PlacementLabel: key.Name}); err != nil {
		return false, person.Error(err, "listing the decisions of placement %s", key)
	}
	if !seen(wanted.parts, decisionsByName(decisions.Items)) {
		return false, nil
	}
	message, err := placementMessage(&placement, decisions.Items)
	if err != nil {
		return false, err
	}
	w.told[key] = true
	return true, w.stream.Send(&schedulerv1.WatchPlacementsResponse{Event: &schedulerv1.WatchPlacementsResponse_Upsert{Upsert: message}})
}

// remove tells that a placement is not the scheduler's any more, if it can have
// been told that it is.
func (w *placementWatch) remove(ctx context.Context, key types.NamespacedName, uid string) error {
	had, known := w.told[key]
	if known && !had || !known && !w.resumed {
		return nil
	}
	if may, err := w.may(ctx, key.Namespace); err != nil || !may {
		return err
	}
	w.told[key] = false
	ref := &schedulerv1.PlacementRef{Namespace: key.Namespace, Name: key.Name, Uid: uid}
	return w.stream.Send(&schedulerv1.WatchPlacementsResponse{Event: &schedulerv1.WatchPlacementsResponse_Removed{Removed: ref}})
}

func decisionsByName(decisions []clusterv1beta1.PlacementDecision) map[string]*clusterv1beta1.PlacementDecision {
	out := make(map[string]*clusterv1beta1.PlacementDecision, len(decisions))
	for i := range decisions {
		out[decisions[i].Name] = &decisions[i]
	}
	return out
}

func placementMessage(p *clusterv1beta1.Placement, decisions []clusterv1beta1.PlacementDecision) (*schedulerv1.Placement, error) {
	spec, err := json.Marshal(p.Spec)
	if err != nil {
		return nil, fmt.Errorf("encoding placement %s/%s: %w", p.Namespace, p.Name, err)
	}
	out := &schedulerv1.Placement{
		Ref:        &schedulerv1.PlacementRef{Namespace: p.Namespace, Name: p.Name, Uid: string(p.UID)},
		Generation: p.Generation, ResourceVersion: p.ResourceVersion, SpecJson: string(spec),
	}
	for i := range decisions {
		for _, decision := range decisions[i].Status.Decisions {
			if decision.ClusterName != "" {
				out.Current = append(out.Current, decision.ClusterName)
			}
		}
	}
	slices.Sort(out.GetCurrent())
	out.Current = slices.Compact(out.GetCurrent())
	return out, nil
}

func (w *placementWatch) bookmark(mark *schedulerv1.Bookmark) error {
	return w.stream.Send(&schedulerv1.WatchPlacementsResponse{Event: &schedulerv1.WatchPlacementsResponse_Bookmark{Bookmark: mark}})
}

func (w *placementWatch) reset(why string) error {
	return w.stream.Send(&schedulerv1.WatchPlacementsResponse{Event: &schedulerv1.WatchPlacementsResponse_Reset_{Reset_: &schedulerv1.Reset{Reason: why}}})
}
