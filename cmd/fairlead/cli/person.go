// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// tokenSeconds is the life of a token that the CLI asks for itself: the
// shortest that Kubernetes gives. spare is how early the next one is asked for.
const (
	tokenSeconds = 600
	spare        = time.Minute
)

// person is who calls, as credentials of gRPC calls. They are never sent without
// TLS. A watch that lives on gets a new token when the old one ends.
type person struct {
	config  *rest.Config
	account string
	note    func(format string, args ...any)

	mu    sync.Mutex
	asked string // a token of the ServiceAccount
	until time.Time
}

func (o *Options) person(config *rest.Config) *person {
	return &person{config: config, account: o.Account, note: o.Notef}
}

// GetRequestMetadata gives the authorization header.
func (p *person) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := p.token(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is always true.
func (p *person) RequireTransportSecurity() bool { return true }

// token is the caller's bearer token: the kubeconfig's own, from whatever plugin
// or file it has it, or a short-lived one of a ServiceAccount when there is only
// a certificate, which no gRPC call can carry on.
func (p *person) token(ctx context.Context) (string, error) {
	token, err := tokenOf(ctx, p.config)
	if err != nil || token != "" {
		return token, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Add(spare).Before(p.until) {
		return p.asked, nil
	}
	namespace, name, ok := strings.Cut(p.account, "/")
	if !ok || namespace == "" || name == "" {
		return "", fmt.Errorf("--service-account %q is not namespace/name", p.account)
	}
	client, err := kubernetes.NewForConfig(p.config)
	if err != nil {
		return "", fmt.Errorf("using the kubeconfig: %w", err)
	}
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("your kubeconfig has a certificate and no token, and a token of ServiceAccount %s could not be had: %w\nHint: name one that you may use with --service-account, or use a kubeconfig with a token", p.account, err)
	}
	if p.asked == "" {
		p.note("Acting as ServiceAccount %s: your kubeconfig has a certificate, and the hub needs a token.", p.account)
	}
	p.asked, p.until = answer.Status.Token, answer.Status.ExpirationTimestamp.Time
	return p.asked, nil
}

// errCaptured ends a request that was never meant to be sent.
var errCaptured = errors.New("captured")

// tokenOf asks the kubeconfig's own authentication (token, token file, exec
// plugin) what it would send. It is empty where that is no bearer token.
func tokenOf(ctx context.Context, config *rest.Config) (string, error) {
	var header string
	capture := roundTripper(func(r *http.Request) (*http.Response, error) {
		header = r.Header.Get("Authorization")
		return nil, errCaptured
	})
	transport, err := rest.HTTPWrappersForConfig(config, capture)
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig's credentials: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("the kubeconfig's server %q: %w", config.Host, err)
	}
	response, err := transport.RoundTrip(request)
	if err == nil {
		return "", response.Body.Close()
	}
	if !errors.Is(err, errCaptured) {
		return "", fmt.Errorf("getting a token as the kubeconfig says: %w", err)
	}
	token, bearer := strings.CutPrefix(header, "Bearer ")
	if !bearer {
		return "", nil
	}
	return token, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
