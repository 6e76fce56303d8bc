// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

// maxAnswer bounds what the hub may send in one message; a page of works ends
// long before.
const maxAnswer = 64 << 20

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
	person := o.person(config)
	if _, err := person.token(ctx); err != nil { // now, where its error can be told well
		return nil, err
	}
	conn, err := grpc.NewClient(target.context.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})),
		grpc.WithPerRPCCredentials(person),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, fmt.Errorf("connecting to the hub at %q: %w", target.context.Address, err)
	}
	return &Hub{
		Enrollments: adminv1.NewEnrollmentAdminServiceClient(conn),
		Clusters:    adminv1.NewClusterAdminServiceClient(conn),
		Works:       adminv1.NewWorkAdminServiceClient(conn),
		Placements:  adminv1.NewPlacementAdminServiceClient(conn),
		conn:        conn,
	}, nil
}

// RESTConfig reads the kubeconfig that says who the caller is on the hub.
func (o *Options) RESTConfig(c Context) (*rest.Config, error) {
	config, err := LoadKubeconfig(cmp.Or(o.Kubeconfig, c.Kubeconfig), cmp.Or(o.KubeContext, c.KubeContext))
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of the hub's Kubernetes: %w (give --kubeconfig)", err)
	}
	return config, nil
}

// LoadKubeconfig reads one context of a kubeconfig; empty is as kubectl finds
// it.
func LoadKubeconfig(file, kubeContext string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	overrides := &clientcmd.ConfigOverrides{CurrentContext: kubeContext}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
}

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
	t := target{context: c, ca: []byte(c.CA), caSource: o.HubsFile()}
	if o.Address != "" {
		t.context.Address = o.Address
	}
	if file := cmp.Or(o.CAFile, c.CAFile); file != "" {
		t.caSource = file
		if t.ca, err = os.ReadFile(file); err != nil {
			return target{}, fmt.Errorf("reading the hub's CA: %w", err)
		}
		if len(t.ca) == 0 {
			return target{}, fmt.Errorf("the hub's CA file %q is empty: put the hub's CA certificate (PEM) there, or name another file with --hub-ca-file", file)
		}
	}
	if t.context.Address == "" || len(t.ca) == 0 {
		return target{}, fmt.Errorf("no hub: give --hub-address and --hub-ca-file, or save a hub in %s with «fairlead config set-hub NAME --hub-address HOST:PORT»", o.HubsFile())
	}
	return t, nil
}
