// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// peers connects to the admin listeners of other replicas. It implements
// admin.Peers: what goes there is a person's own call, so that this replica
// needs no right on the others.
type peers struct {
	house *house

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by address
}

func newPeers(h *house) *peers { return &peers{house: h, conns: map[string]*grpc.ClientConn{}} }

// Dial implements admin.Peers.
func (p *peers) Dial(replica string) (grpc.ClientConnInterface, error) {
	address, live := "", map[string]bool{}
	for _, r := range p.house.sessions.Replicas() {
		if r.Live {
			live[r.AdminAddress] = true
		}
		if r.Live && r.ID == replica {
			address = r.AdminAddress
		}
	}
	if address == "" {
		return nil, fmt.Errorf("hub replica %q has no Lease that says where it is", replica)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.conns, func(address string, conn *grpc.ClientConn) bool {
		if !live[address] {
			_ = conn.Close() // of a replica that is gone
		}
		return !live[address]
	})
	if conn := p.conns[address]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(p.tls())))
	if err != nil {
		return nil, fmt.Errorf("connecting to hub replica %q at %q: %w", replica, address, err)
	}
	p.conns[address] = conn
	return conn, nil
}

// tls verifies a replica as one of this hub: its certificate comes from the
// hub's serving authority and has a name that this replica's has too. Replicas
// are reached by addresses that no certificate needs to know.
func (p *peers) tls() *tls.Config {
	_, roots := p.house.authorities.TrustBundle()
	pool := x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	if leaf := p.house.authorities.Server().State().Certificate.Leaf; len(leaf.DNSNames) > 0 {
		config.ServerName = leaf.DNSNames[0]
	} else if len(leaf.IPAddresses) > 0 {
		config.ServerName = leaf.IPAddresses[0].String()
	}
	return config
}

// run closes all connections when ctx ends.
func (p *peers) run(ctx context.Context) error {
	<-ctx.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	var problems []error
	for address, conn := range p.conns {
		problems = append(problems, conn.Close())
		delete(p.conns, address)
	}
	return errors.Join(problems...)
}
