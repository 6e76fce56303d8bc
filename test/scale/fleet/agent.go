// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"fairlead.dev/fairlead/agent/link"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/pki"
)

// agent is one of the fleet. It implements link.Credentials.
type agent struct {
	cluster string
	client  *pki.Client
	curves  *atomic.Pointer[[]tls.CurveID] // of the fleet
	trust   uint64
	store   *store
	link    *link.Link

	mu   sync.Mutex
	conn net.Conn // the newest
}

// TLS implements link.Credentials.
func (a *agent) TLS(endpoint string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return nil, err
	}
	config := a.client.TLSConfig(host)
	if curves := a.curves.Load(); curves != nil {
		config.CurvePreferences = *curves
	}
	return config, nil
}

// RenewAt implements link.Credentials.
func (*agent) RenewAt() time.Time { return time.Time{} }

// Renew implements link.Credentials.
func (*agent) Renew(context.Context, grpc.ClientConnInterface) error {
	return errors.New("these certificates outlive the measurement")
}

// Trust implements link.Credentials.
func (*agent) Trust(context.Context, *agentv1.TrustBundle) error { return nil }

// TrustVersion implements link.Credentials.
func (a *agent) TrustVersion() uint64 { return a.trust }

// dial keeps the connection, so that cut can break it.
func (a *agent) dial(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn = conn
	return conn, nil
}

// cut breaks the connection as a network would.
func (a *agent) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		_ = a.conn.Close() // it may have broken by itself
	}
}

func clusterReport() link.ClusterReport {
	return link.ClusterReport{
		KubernetesVersion: "v1.37.0",
		Claims:            map[string]string{"id.k8s.io": "scale", "platform.open-cluster-management.io": "bench", "region": "loopback"},
		Capacity:          map[string]string{"cpu": "32", "memory": "128Gi", "pods": "250"},
		Allocatable:       map[string]string{"cpu": "31", "memory": "120Gi", "pods": "250"},
		APIServerHealthy:  true,
	}
}
