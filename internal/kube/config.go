// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube has small helpers around Kubernetes clients that hub and agent
// share: installing CRDs and manifests, client configurations for other
// identities than one's own, and the question whether a ManagedCluster is still
// as the hub made it.
//
// rest.Configs, clients and bytes come in; nothing here knows Fairlead's
// protocol, sessions or enrollments.
package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/oauth2"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// tokenLifetime is what we ask for; the apiserver may shorten it.
	tokenLifetime = time.Hour
	// tokenRequestTimeout bounds one call for a token.
	tokenRequestTimeout = 20 * time.Second
	// tokenShare is the part of a token's life after which a new one is asked for.
	tokenShare = 0.8
)

// ErrNoToken is returned where a person's bearer token is needed and there is none.
var ErrNoToken = errors.New("no bearer token was given")

// AnonymousConfigWithToken returns a configuration that reaches the same
// apiserver as cfg but carries no identity except that token. A copy of cfg
// would keep its certificate or token file, which win over a token: so it is
// built from the anonymous configuration. An empty token is an error. The
// config must not be logged.
func AnonymousConfigWithToken(cfg *rest.Config, token string) (*rest.Config, error) {
	if token == "" {
		return nil, ErrNoToken
	}
	out := rest.AnonymousClientConfig(cfg)
	out.BearerToken = token
	out.RateLimiter = nil // one person's calls do not use up the hub's own budget
	return out, nil
}

// ServiceAccountConfig returns a configuration that reaches the same apiserver
// as cfg as a ServiceAccount. Its tokens come from TokenRequest, made with cfg's
// own identity, and are replaced before they expire or once one is refused; no
// goroutine is needed for that. Clients made from it may run for ever.
func ServiceAccountConfig(cfg *rest.Config, namespace, name string) (*rest.Config, error) {
	core, err := corev1client.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a client to ask for tokens of %s/%s: %w", namespace, name, err)
	}
	source := transport.NewCachedTokenSource(&tokenRequests{accounts: core.ServiceAccounts(namespace), namespace: namespace, name: name})
	out := rest.AnonymousClientConfig(cfg)
	out.RateLimiter = nil
	out.Wrap(transport.ResettableTokenSourceWrapTransport(source))
	return out, nil
}

// EnsureIdentity makes a ServiceAccount and its rights exist (docs, see
// ApplyManifests; the namespace is made too) and returns a configuration that
// acts as it. c and cfg must be of an identity that may grant those rights.
func EnsureIdentity(ctx context.Context, cfg *rest.Config, c client.Client, account types.NamespacedName, docs [][]byte) (*rest.Config, error) {
	if err := EnsureNamespace(ctx, c, account.Namespace); err != nil {
		return nil, err
	}
	if err := ApplyManifests(ctx, c, account.Namespace, docs); err != nil {
		return nil, err
	}
	return ServiceAccountConfig(cfg, account.Namespace, account.Name)
}

// tokenRequests asks the apiserver for a new token on every call of Token.
type tokenRequests struct {
	accounts        corev1client.ServiceAccountInterface
	namespace, name string
}

// Token implements oauth2.TokenSource, whose signature has no context.
func (t *tokenRequests) Token() (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tokenRequestTimeout)
	defer cancel()
	asked := time.Now()
	seconds := int64(tokenLifetime / time.Second)
	answer, err := t.accounts.CreateToken(ctx, t.name, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking for a token of ServiceAccount %s/%s: %w", t.namespace, t.name, err)
	}
	life := answer.Status.ExpirationTimestamp.Sub(asked)
	return &oauth2.Token{
		AccessToken: answer.Status.Token,
		Expiry:      asked.Add(time.Duration(float64(life) * tokenShare)),
	}, nil
}
