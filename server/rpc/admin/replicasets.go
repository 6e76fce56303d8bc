// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"

	"google.golang.org/grpc/codes"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// ExplainReplicaSet says of every cluster of a replica set what it waits for. It
// names the clusters that the decisions of its placements name, and so is for those
// who may read these too.
func (s placementService) ExplainReplicaSet(ctx context.Context, r *adminv1.ExplainReplicaSetRequest) (*adminv1.ExplainReplicaSetResponse, error) {
	who, err := s.asked(ctx, r.GetNamespace(), r.GetName())
	if err != nil {
		return nil, err
	}
	decisions := authorizationv1.ResourceAttributes{Verb: "list", Group: managedClusters.Group, Resource: "placementdecisions", Namespace: r.GetNamespace()}
	if err := who.Allowed(ctx, decisions); err != nil {
		return nil, err
	}
	if s.ReplicaSets == nil {
		return nil, fail(codes.FailedPrecondition, reason.Unsupported, "replica set %q in namespace %q: this hub makes no works for any; start it with --feature-gates=ManifestWorkReplicaSet=true", r.GetName(), r.GetNamespace())
	}
	object, err := who.Dynamic.Resource(replicaSets).Namespace(r.GetNamespace()).Get(ctx, r.GetName(), metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) {
			return nil, fail(codes.NotFound, reason.NotFound, "namespace %q has no replica set %q: «kubectl get manifestworkreplicasets -A» lists those that there are", r.GetNamespace(), r.GetName())
		}
		return nil, kubernetesError(err, "reading replica set %q in namespace %q", r.GetName(), r.GetNamespace())
	}
	set := &workv1alpha1.ManifestWorkReplicaSet{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, set); err != nil {
		return nil, fail(codes.Internal, reason.Undecodable, "decoding replica set %q in namespace %q: %v", r.GetName(), r.GetNamespace(), err)
	}
	answer, known, err := s.ReplicaSets.Explain(ctx, set)
	if err != nil {
		return nil, kubernetesError(err, "explaining replica set %q in namespace %q", r.GetName(), r.GetNamespace())
	}
	if !known {
		return nil, fail(codes.Unavailable, reason.HubStarting, "replica set %q in namespace %q: this hub is still reading its works; ask again soon", r.GetName(), r.GetNamespace())
	}
	answer.Clusters, answer.NextPageToken, err = cut(answer.GetClusters(), r.GetPageSize(), r.GetPageToken())
	return answer, err
}
