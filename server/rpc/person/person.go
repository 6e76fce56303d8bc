// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package person is what the services for people and their tools share: clients
// that act with the bearer token of whoever calls, the apiserver's answers to them
// as gRPC errors, and places for watches, which end when the replica drains. In
// come a call's context and the hub's apiserver address, never its credentials;
// out go clients and errors. It knows no service.
package person

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// Callers makes clients that act as the person who calls. It is safe for
// concurrent use.
type Callers struct {
	base *rest.Config
	err  error // what is wrong with base
}

// NewCallers keeps the hub's address, its trust in the apiserver and one pool of
// connections for everybody. AnonymousClientConfig drops every credential of the
// hub's own: a copied config would keep its certificate or token file, which win
// over the caller's token.
func NewCallers(hub *rest.Config) *Callers {
	anonymous := rest.AnonymousClientConfig(hub)
	host, _, err := rest.DefaultServerUrlFor(anonymous)
	if err != nil {
		return &Callers{err: err}
	}
	transport, err := rest.TransportFor(anonymous)
	if err != nil {
		return &Callers{err: err}
	}
	return &Callers{base: &rest.Config{
		Host: host.String(), APIPath: anonymous.APIPath, ContentConfig: anonymous.ContentConfig,
		Transport: transport, DisableCompression: anonymous.DisableCompression,
		UserAgent: "fairlead-hub-for-caller",
		QPS:       -1, // the person's own rate is limited by the listener
	}}
}

// Person acts with one person's bearer token.
type Person struct {
	// Name is the person as the apiserver knows them, for the audit line.
	Name    string
	Config  *rest.Config
	Kube    kubernetes.Interface
	Dynamic dynamic.Interface
}

// Of takes the bearer token that the interceptors found, and had the apiserver
// judge; an empty one never gets that far.
func (c *Callers) Of(ctx context.Context) (*Person, error) {
	who := authz.CallerOf(ctx)
	if who == nil || who.Token == "" {
		return nil, rpcerr.New(codes.Unauthenticated, reason.Unauthenticated, "no bearer token: send metadata «authorization: Bearer <token of a hub user>»")
	}
	person, err := c.with(who.Token)
	if err != nil {
		return nil, err
	}
	person.Name = who.Name
	return person, nil
}

// Authenticate returns the name of the holder of a bearer token, as the apiserver
// knows it, or the apiserver's refusal.
func (c *Callers) Authenticate(ctx context.Context, token string) (name string, err error) {
	person, err := c.with(token)
	if err != nil {
		return "", err
	}
	review, err := person.Kube.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", Error(err, "asking who you are")
	}
	return review.Status.UserInfo.Username, nil
}

func (c *Callers) with(token string) (*Person, error) {
	if c.err != nil {
		return nil, fmt.Errorf("using the hub's apiserver address for the caller: %w", c.err)
	}
	config := rest.CopyConfig(c.base)
	config.BearerToken = token
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
	return &Person{Config: config, Kube: kube, Dynamic: dyn}, nil
}

// May tells whether the caller may do this; the question is asked with the
// caller's own token, so the apiserver's audit log has the person.
func (p *Person) May(ctx context.Context, access authorizationv1.ResourceAttributes) (bool, error) {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &access}}
	answer, err := p.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, Error(err, "asking whether you may %s %s", access.Verb, resourceName(access))
	}
	return answer.Status.Allowed, nil
}

// Allowed gives an error unless the caller may do this; see May.
func (p *Person) Allowed(ctx context.Context, access authorizationv1.ResourceAttributes) error {
	may, err := p.May(ctx, access)
	if err != nil {
		return err
	}
	if !may {
		return rpcerr.New(codes.PermissionDenied, reason.PermissionDenied, "you may not %s %s: ask for a role with that verb, such as ClusterRole fairlead-admin", access.Verb, resourceName(access))
	}
	return nil
}

// Names gives an error unless all of these can be names: a client of the apiserver
// refuses others by itself, which would look like an apiserver that is away.
func Names(names ...string) error {
	for _, name := range names {
		problems := content.IsPathSegmentName(name)
		if name == "" {
			problems = []string{"it is empty"}
		}
		if len(problems) > 0 {
			return rpcerr.New(codes.InvalidArgument, reason.InvalidName, "%q cannot be a name: %s", name, problems[0])
		}
	}
	return nil
}

// Virtual names one of the resources that exist only to be authorized.
func Virtual(verb, resource, name string) authorizationv1.ResourceAttributes {
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
