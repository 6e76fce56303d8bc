// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// tokenSeconds is the life of a token that the CLI asks for itself: the
// shortest that Kubernetes gives.
const tokenSeconds = 600

// Dial connects to the hub's admin listener as the person of the kubeconfig.
func (o *Options) Dial(ctx context.Context) (*Hub, error) {
	target, err := o.target()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(target.ca) {
		return nil, fmt.Errorf("the hub's CA in %s holds no PEM certificate", target.caSource)
	}
	config, err := o.RESTConfig(target.context)
	if err != nil {
		return nil, err
	}
	token, err := o.token(ctx, config)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(target.context.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})),
		grpc.WithPerRPCCredentials(bearer(token)))
	if err != nil {
		return nil, fmt.Errorf("connecting to the hub at %q: %w", target.context.Address, err)
	}
	return &Hub{
		Enrollments: adminv1.NewEnrollmentAdminServiceClient(conn),
		Clusters:    adminv1.NewClusterAdminServiceClient(conn),
		Works:       adminv1.NewWorkAdminServiceClient(conn),
		conn:        conn,
	}, nil
}

// RESTConfig reads the kubeconfig that says who the caller is.
func (o *Options) RESTConfig(c Context) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = firstSet(o.Kubeconfig, c.Kubeconfig)
	overrides := &clientcmd.ConfigOverrides{CurrentContext: firstSet(o.KubeContext, c.KubeContext)}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of the hub's Kubernetes: %w (give --kubeconfig)", err)
	}
	return config, nil
}

// token is the caller's bearer token: the kubeconfig's own, from whatever plugin
// or file it has it, or a short-lived one of a ServiceAccount when there is only
// a certificate, which no gRPC call can carry on.
func (o *Options) token(ctx context.Context, config *rest.Config) (string, error) {
	token, err := tokenOf(ctx, config)
	if err != nil || token != "" {
		return token, err
	}
	namespace, name, ok := strings.Cut(o.Account, "/")
	if !ok || namespace == "" || name == "" {
		return "", fmt.Errorf("--service-account %q is not namespace/name", o.Account)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", fmt.Errorf("using the kubeconfig: %w", err)
	}
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("your kubeconfig has a certificate and no token, and a token of ServiceAccount %s could not be had: %w (name one that you may use with --service-account, or use a kubeconfig with a token)", o.Account, err)
	}
	fmt.Fprintf(o.Err, "Acting as ServiceAccount %s: your kubeconfig has a certificate, and the hub needs a token.\n", o.Account)
	return answer.Status.Token, nil
}

// errCaptured ends a request that was never meant to be sent.
var errCaptured = errors.New("captured")

// tokenOf asks the kubeconfig's own authentication (token, token file, exec
// plugin) what it would send.
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
	token, _ := strings.CutPrefix(header, "Bearer ")
	return token, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// bearer is a token as call credentials; it is never sent without TLS.
type bearer string

// GetRequestMetadata gives the authorization header.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is always true.
func (b bearer) RequireTransportSecurity() bool { return true }

type target struct {
	context  Context
	ca       []byte
	caSource string
}

// target merges flags over the context of the config file.
func (o *Options) target() (target, error) {
	c, err := o.context()
	if err != nil {
		return target{}, err
	}
	t := target{context: c, ca: []byte(c.CA), caSource: o.ConfigFile}
	if o.Address != "" {
		t.context.Address = o.Address
	}
	if file := firstSet(o.CAFile, c.CAFile); file != "" {
		t.caSource = file
		if t.ca, err = os.ReadFile(file); err != nil {
			return target{}, fmt.Errorf("reading the hub's CA: %w", err)
		}
	}
	if t.context.Address == "" || len(t.ca) == 0 {
		return target{}, fmt.Errorf("no hub: give --hub-address and --hub-ca-file, or add a context to %s with «fairlead config set-hub»", o.ConfigFile)
	}
	return t, nil
}

func firstSet(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
