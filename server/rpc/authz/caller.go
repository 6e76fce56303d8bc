// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"fairlead.dev/fairlead/internal/identity"
)

// Caller is who makes a call, as verified by the interceptors. Handlers read
// it from the context; they never look at metadata or certificates themselves.
type Caller struct {
	Type   Type
	Remote string // address, for logs and leases
	// RequestID is the hub's own name for the call, in its logs and in the
	// response's header.
	RequestID string

	// Of an Agent.
	Agent      identity.Agent
	Scope      identity.Scope
	Serial     string
	NotAfter   time.Time
	Enrollment string // name of the ClusterEnrollment; empty without one
	Leaf       *x509.Certificate
	Conn       Conn

	// Of a Person. The token is passed through to the apiserver and never logged;
	// Name is as whom the apiserver knows its holder.
	Token string
	Name  string
}

// Conn is the network connection below a call. Its methods may be called at
// any time, by any goroutine.
type Conn interface {
	// Written counts the bytes that the kernel has taken.
	Written() uint64
	// Close cuts the connection at once, without a word to the other end.
	Close() error
}

// Certificate is the agent's certificate. It is the one that the TLS connection
// keeps anyhow, for as long as the agent stays.
func (c *Caller) Certificate() (*x509.Certificate, error) {
	if c.Leaf == nil {
		return nil, fmt.Errorf("the call of %q came without a certificate", c.Agent.User())
	}
	return c.Leaf, nil
}

type callerKey struct{}

// WithCaller is called by the interceptors, and by tests of handlers.
func WithCaller(ctx context.Context, caller *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerOf returns the verified caller, or nil outside a call. The result is
// shared and must not be changed.
func CallerOf(ctx context.Context) *Caller {
	caller, _ := ctx.Value(callerKey{}).(*Caller)
	return caller
}
