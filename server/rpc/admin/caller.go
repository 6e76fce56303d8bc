// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
)

var (
	managedClusters = schema.GroupVersionResource{Group: "cluster.open-cluster-management.io", Version: "v1", Resource: "managedclusters"}
	manifestWorks   = schema.GroupVersionResource{Group: "work.open-cluster-management.io", Version: "v1", Resource: "manifestworks"}
)

// callers makes clients that act as the person who calls.
type callers struct {
	base *rest.Config
	err  error // what is wrong with base
}

// newCallers keeps the hub's address, its trust in the apiserver and one pool of
// connections for everybody. AnonymousClientConfig drops every credential of the
// hub's own: a copied config would keep its certificate or token file, which win
// over the caller's token.
func newCallers(hub *rest.Config) *callers {
	anonymous := rest.AnonymousClientConfig(hub)
	host, _, err := rest.DefaultServerUrlFor(anonymous)
	if err != nil {
		return &callers{err: err}
	}
	transport, err := rest.TransportFor(anonymous)
	if err != nil {
		return &callers{err: err}
	}
	return &callers{base: &rest.Config{
		Host: host.String(), APIPath: anonymous.APIPath, ContentConfig: anonymous.ContentConfig,
		Transport: transport, DisableCompression: anonymous.DisableCompression,
		UserAgent: "fairlead-hub-for-caller",
		QPS:       -1, // the person's own rate is limited by the listener
	}}
}

// caller acts with one person's bearer token.
type caller struct {
	config  *rest.Config
	kube    kubernetes.Interface
	dynamic dynamic.Interface
}

// of takes the bearer token that the interceptors found. The apiserver judges it; an
// empty one never gets that far.
func (c *callers) of(ctx context.Context) (*caller, error) {
	who := authz.CallerOf(ctx)
	if who == nil || who.Token == "" {
		return nil, fail(codes.Unauthenticated, reason.Unauthenticated, "no bearer token: send metadata «authorization: Bearer <token of a hub user>»")
	}
	if c.err != nil {
		return nil, fmt.Errorf("using the hub's apiserver address for the caller: %w", c.err)
	}
	config := rest.CopyConfig(c.base)
	config.BearerToken = who.Token
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for the caller: %w", err)
	}
	kube, err := kubernetes.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("making a client for the caller: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("making a client for the caller: %w", err)
	}
	return &caller{config: config, kube: kube, dynamic: dyn}, nil
}

// allowed gives an error unless the caller may do this; the question is asked
// with the caller's own token, so the apiserver's audit log has the person.
func (c *caller) allowed(ctx context.Context, access authorizationv1.ResourceAttributes) error {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &access}}
	answer, err := c.kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return kubernetesError(err, "asking whether you may %s %s", access.Verb, resourceName(access))
	}
	if !answer.Status.Allowed {
		return fail(codes.PermissionDenied, reason.PermissionDenied, "you may not %s %s: ask for a role with that verb, such as ClusterRole fairlead-admin", access.Verb, resourceName(access))
	}
	return nil
}

// name is the person as the apiserver knows them, for the audit line.
func (c *caller) name(ctx context.Context) (string, error) {
	review, err := c.kube.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", kubernetesError(err, "asking who you are")
	}
	return review.Status.UserInfo.Username, nil
}

// authorize is of, allowed and name in one: for actions that the hub itself
// carries out.
func (s *Service) authorize(ctx context.Context, access authorizationv1.ResourceAttributes) (*caller, string, error) {
	who, err := s.callers.of(ctx)
	if err != nil {
		return nil, "", err
	}
	if err := who.allowed(ctx, access); err != nil {
		return nil, "", err
	}
	name, err := who.name(ctx)
	return who, name, err
}

// asked is who calls, if all of these can be names: a client of the apiserver
// refuses others by itself, which would look like an apiserver that is away.
func (s *Service) asked(ctx context.Context, names ...string) (*caller, error) {
	for _, name := range names {
		problems := content.IsPathSegmentName(name)
		if name == "" {
			problems = []string{"it is empty"}
		}
		if len(problems) > 0 {
			return nil, fail(codes.InvalidArgument, reason.InvalidName, "%q cannot be a name: %s", name, problems[0])
		}
	}
	return s.callers.of(ctx)
}

// virtual names one of the resources that exist only to be authorized.
func virtual(verb, resource, name string) authorizationv1.ResourceAttributes {
	resource, subresource, _ := strings.Cut(resource, "/")
	return authorizationv1.ResourceAttributes{Verb: verb, Group: "fairlead.dev", Resource: resource, Subresource: subresource, Name: name}
}

func resourceName(a authorizationv1.ResourceAttributes) string {
	name := a.Resource + "." + a.Group
	if a.Subresource != "" {
		name = a.Resource + "/" + a.Subresource + "." + a.Group
	}
	if a.Name != "" {
		name += " " + a.Name
	}
	if a.Namespace != "" {
		name += " in namespace " + a.Namespace
	}
	return name
}
