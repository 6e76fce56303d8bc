// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"google.golang.org/grpc/codes"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// review asks the apiserver, with a person's own token, whether they may look at
// the hub itself (reflection, channelz). The hub's own rights play no part.
func (h *house) review(ctx context.Context, token, path string) error {
	config, err := kube.AnonymousConfigWithToken(h.rest, token)
	if err != nil {
		return rpcerr.New(codes.Unauthenticated, reason.Unauthenticated, "no bearer token was given")
	}
	person, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: path},
	}}
	review, err = person.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	switch {
	case apierrors.IsUnauthorized(err):
		return rpcerr.New(codes.Unauthenticated, reason.Unauthenticated, "the hub's apiserver does not know this bearer token").Because(err)
	case apierrors.IsForbidden(err) || err == nil && !review.Status.Allowed:
		return rpcerr.New(codes.PermissionDenied, reason.PermissionDenied, "you may not get %s on the hub's apiserver; ask its admin for a role that allows it", path)
	}
	return err
}
