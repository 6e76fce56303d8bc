// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// filterClusterSet removes the clusters that a placement cannot choose from;
// scheduling has the same name.
const filterClusterSet = "ClusterSet"

// ExplainPlacement says of every cluster why a placement chooses it or not. Who
// may get the placement sees the clusters of the sets that are bound to its
// namespace; the others are only for those who may list clusters (PL-62).
func (s placementService) ExplainPlacement(ctx context.Context, r *adminv1.ExplainPlacementRequest) (*adminv1.ExplainPlacementResponse, error) {
	who, err := s.asked(ctx, r.GetNamespace(), r.GetName())
	if err != nil {
		return nil, err
	}
	if s.Placements == nil {
		return nil, fail(codes.Unavailable, reason.HubStarting, "placement %q in namespace %q: this hub serves no placements; install its CRDs", r.GetName(), r.GetNamespace())
	}
	placements := schema.GroupVersionResource{Group: managedClusters.Group, Version: "v1beta1", Resource: "placements"}
	object, err := who.Dynamic.Resource(placements).Namespace(r.GetNamespace()).Get(ctx, r.GetName(), metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) {
			return nil, fail(codes.NotFound, reason.NotFound, "namespace %q has no placement %q: «kubectl get placements -A» lists those that there are", r.GetNamespace(), r.GetName())
		}
		return nil, kubernetesError(err, "reading placement %q in namespace %q", r.GetName(), r.GetNamespace())
	}
	placement := &clusterv1beta1.Placement{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, placement); err != nil {
		return nil, fail(codes.Internal, reason.Undecodable, "decoding placement %q in namespace %q: %v", r.GetName(), r.GetNamespace(), err)
	}
	all := authorizationv1.ResourceAttributes{Verb: "list", Group: managedClusters.Group, Resource: managedClusters.Resource}
	hidden := who.Allowed(ctx, all)
	if hidden != nil && status.Code(hidden) != codes.PermissionDenied {
		return nil, hidden
	}
	begin, id := parted(r.GetPageToken())
	one, ok := s.explanations.find(who.Name, id, placement)
	if !ok {
		answer, err := s.Placements.Explain(ctx, placement)
		if err != nil {
			return nil, kubernetesError(err, "explaining placement %q in namespace %q", r.GetName(), r.GetNamespace())
		}
		one = s.explanations.begin(placement, answer)
	}
	page, err := one.page(hidden == nil, r.GetPageSize(), begin)
	if err == nil && !ok && page.GetNextPageToken() != "" {
		s.explanations.keep(who.Name, one)
	}
	return page, err
}

// cut leaves one page of the clusters. As they are in an order of their own, a
// token is how many there are before the page.
func cut[T any](clusters []T, asked int32, token string) (page []T, next string, err error) {
	size, err := pageSize(asked)
	if err != nil {
		return nil, "", err
	}
	begin := 0
	if token != "" {
		if begin, err = strconv.Atoi(token); err != nil || begin < 0 {
			return nil, "", fail(codes.InvalidArgument, reason.InvalidArgument, "page_token %q is not one that this hub gave: ask again without one", token)
		}
	}
	page = clusters[min(begin, len(clusters)):]
	if len(page) > size {
		page, next = page[:size], strconv.Itoa(begin+size)
	}
	return page, next, nil
}
