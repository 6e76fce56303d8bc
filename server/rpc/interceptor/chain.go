// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package interceptor is what every call passes before a handler sees it:
// recovery, a request id, a log line, metrics, a cap on its duration, limits,
// the caller's identity and the method table, in that order. It also makes the
// listeners' TLS. It is the only place where a verified certificate becomes an
// identity.Scope. What comes in is bytes from anybody; what goes on is a context
// with an authz.Caller, or an error.
package interceptor

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"fairlead.dev/fairlead/internal/aside"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

// requestIDHeader carries the hub's name for a unary call back to the caller, as
// wire.TimeHeader does what its clock says.
// Streams say who they are by themselves; theirs would be kept for life.
const requestIDHeader = "x-request-id"

// Verified is what is known about an agent's certificate beyond itself.
type Verified struct {
	// UID is the ManagedCluster that the certificate is bound to.
	UID string
	// Enrollment names the ClusterEnrollment; empty where there is none.
	Enrollment string
}

// VerifyFunc says whether an agent's certificate may be used now: the cluster
// is known, accepted, of that UID, and the serial is one of its own. It is asked
// at every call. Errors should be *rpcerr.Error.
type VerifyFunc func(ctx context.Context, cert *x509.Certificate, agent identity.Agent) (Verified, error)

// AuthenticateFunc asks the apiserver whose bearer token this is, and returns the
// name. It is asked at every call of a person, before anything that they sent is
// looked at. Errors should be *rpcerr.Error.
type AuthenticateFunc func(ctx context.Context, token string) (name string, err error)

// ReviewFunc asks the apiserver, with a person's own token, whether they may
// "get" a non-resource path. Errors should be *rpcerr.Error.
type ReviewFunc func(ctx context.Context, token, path string) error

// Config is what a listener's chain needs.
type Config struct {
	Listener authz.Listener
	Table    authz.Table
	// Verify checks agents; nil refuses them all.
	Verify VerifyFunc
	// Authenticate checks people; nil refuses them all.
	Authenticate AuthenticateFunc
	// Review checks a person where the rule names a path; nil refuses.
	Review ReviewFunc
	// Now is the hub's clock; nil is time.Now.
	Now      func() time.Time
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Chain is the interceptors of one listener. It is safe for concurrent use.
type Chain struct {
	cfg     Config
	metrics *grpcprom.ServerMetrics
	panics  prometheus.Counter
}

// New makes the chain of one listener.
func New(cfg Config) *Chain {
	c := &Chain{cfg: cfg}
	if cfg.Now == nil {
		c.cfg.Now = time.Now
	}
	c.metrics = register(cfg.Registry, grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram()))
	c.panics = register(cfg.Registry, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fairlead_hub_panics_total",
		Help: "Handlers that panicked and were recovered. Expected value: 0.",
	}))
	return c
}

// ServerOptions are the chain as options of a grpc.Server.
func (c *Chain) ServerOptions() []grpc.ServerOption {
	recovered := recovery.WithRecoveryHandlerContext(c.recovered)
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(recovery.UnaryServerInterceptor(recovered), c.metrics.UnaryServerInterceptor(), c.unary),
		grpc.ChainStreamInterceptor(recovery.StreamServerInterceptor(recovered), c.metrics.StreamServerInterceptor(), c.stream),
	}
}

func (c *Chain) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	call := c.begin(ctx, info.FullMethod)
	resp, err := c.admitted(ctx, call, req, handler)
	err = c.end(ctx, call, err)
	detain(ctx, err)
	return resp, err
}

// admitted calls the handler if the caller may.
func (c *Chain) admitted(ctx context.Context, call *call, req any, handler grpc.UnaryHandler) (any, error) {
	ctx, err := c.admit(ctx, call)
	if err != nil {
		return nil, err
	}
	// Fails only after headers were sent.
	_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDHeader, call.id, wire.TimeHeader, c.cfg.Now().UTC().Format(time.RFC3339Nano)))
	if longest := call.rule.Longest; longest > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longest)
		defer cancel()
	}
	call.admitted = true
	return handler(ctx, req)
}

// detention is how long who has shown no credential waits for the answer that they
// ask too often. A connection has few calls at a time, so what they ask meanwhile
// costs the hub nothing (T52, T53).
const detention = 3 * time.Second

func detain(ctx context.Context, err error) {
	if rpcerr.ReasonOf(err) != reason.RateLimited || len(metadata.ValueFromIncomingContext(ctx, "authorization")) > 0 {
		return
	}
	if info := peerOf(ctx); info != nil && info.certified() {
		return
	}
	over := time.NewTimer(detention)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
	}
}

func (c *Chain) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	call := c.begin(ss.Context(), info.FullMethod)
	// This goroutine lives as long as the stream.
	ctx, err := aside.Call(func() (context.Context, error) { return c.admit(ss.Context(), call) })
	if err != nil {
		return c.end(ctx, call, err)
	}
	if longest := call.rule.Longest; longest > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longest)
		defer cancel()
	}
	call.admitted = true
	return c.end(ctx, call, handler(srv, &streamWithContext{ServerStream: ss, ctx: ctx}))
}

// streamWithContext is a stream whose context has the caller in it.
type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc's own way to give a stream a context
}

// Context implements grpc.ServerStream.
func (s *streamWithContext) Context() context.Context { return s.ctx }

// call is one call on its way through the chain.
type call struct {
	id       string
	method   string
	remote   string
	caller   string // for the log; empty until it is known
	begun    time.Time
	rule     authz.Rule
	admitted bool
}

// end turns whatever a handler returned into what is sent, and logs it once.
func (c *Chain) end(ctx context.Context, call *call, err error) error {
	if err == nil {
		c.cfg.Log.DebugContext(ctx, "call", append(call.attrs(), "code", "OK")...)
		return nil
	}
	sent := rpcerr.From(err)
	attrs := append(call.attrs(), "code", sent.Code.String(), "reason", sent.Reason, "error", sent.Error())
	c.cfg.Log.Log(ctx, levelOf(call, sent.Code), "call failed", attrs...)
	return sent.GRPCStatus().Err()
}

func (c *call) attrs() []any {
	attrs := []any{"request", c.id, "method", c.method, "remote", c.remote, "duration", time.Since(c.begun)}
	if c.caller != "" {
		attrs = append(attrs, "caller", c.caller)
	}
	return attrs
}
