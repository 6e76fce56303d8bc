// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package interceptor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

func (c *Chain) begin(ctx context.Context, method string) *call {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	begun := &call{id: hex.EncodeToString(id[:]), method: method, begun: time.Now()}
	if p, ok := peer.FromContext(ctx); ok {
		begun.remote = p.Addr.String()
	}
	return begun
}

// admit decides whether the call may go on to its handler. The order matters:
// what is cheap and says nothing about the hub comes first, and the type of
// credential is looked at before the credential itself.
func (c *Chain) admit(ctx context.Context, call *call) (context.Context, error) {
	rule, ok := c.cfg.Table[call.method]
	if !ok || rule.Listeners&c.cfg.Listener == 0 {
		return ctx, rpcerr.New(codes.PermissionDenied, reason.PermissionDenied, "method %q may not be called here", call.method)
	}
	call.rule = rule
	info := peerOf(ctx)
	if err := limit(rule, info); err != nil {
		return ctx, err
	}
	caller := &authz.Caller{Remote: call.remote, RequestID: call.id, Conn: connOf(info)}
	if err := c.typeOf(ctx, info, caller); err != nil {
		return ctx, err
	}
	if !rule.Allows(caller.Type) {
		return ctx, wrongType(rule, caller.Type)
	}
	if caller.Type == authz.Agent && !rule.Allows(authz.Anonymous) {
		if err := c.verify(ctx, info, caller); err != nil {
			return ctx, err
		}
		call.caller = caller.Agent.User()
	}
	if caller.Type == authz.Person && !rule.Allows(authz.Anonymous) {
		if err := c.authenticate(ctx, rule, caller); err != nil {
			return ctx, err
		}
		call.caller = caller.Name
	}
	return authz.WithCaller(ctx, caller), nil
}

// limit spends from the connection's budget.
func limit(rule authz.Rule, info *peerInfo) error {
	if info != nil && !info.calls.AllowN(time.Now(), rule.Rate.Cost) {
		return rpcerr.New(codes.ResourceExhausted, reason.RateLimited, "too many calls on this connection").RetryIn(time.Second)
	}
	return nil
}

// typeOf decides the type of credential, and reads a bearer token.
func (c *Chain) typeOf(ctx context.Context, info *peerInfo, caller *authz.Caller) error {
	header := metadata.ValueFromIncomingContext(ctx, "authorization")
	certified := info != nil && info.certified()
	switch {
	case len(header) == 0 && !certified:
		caller.Type = authz.Anonymous
		return nil
	case len(header) == 0:
		caller.Type = authz.Agent
		return nil
	case certified || len(header) > 1:
		return rpcerr.New(codes.Unauthenticated, reason.Unauthenticated, "the call has more than one credential; send either a client certificate or one bearer token")
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return rpcerr.New(codes.Unauthenticated, reason.Unauthenticated, "the authorization header is not %q", "Bearer <token>")
	}
	caller.Type, caller.Token = authz.Person, token
	return nil
}

// verify makes the caller an agent that may act for its cluster. Nothing else
// makes a Scope.
func (c *Chain) verify(ctx context.Context, info *peerInfo, caller *authz.Caller) error {
	if info.err != nil {
		return rpcerr.New(codes.Unauthenticated, reason.CertificateError, "the client certificate does not name an agent: %v", info.err)
	}
	if !c.cfg.Now().Before(info.until) {
		return rpcerr.New(codes.Unauthenticated, reason.CertificateExpired, "the client certificate expired at %s; enroll again", info.until.UTC().Format(time.RFC3339))
	}
	if c.cfg.Verify == nil {
		return rpcerr.New(codes.PermissionDenied, reason.PermissionDenied, "agents are not served here")
	}
	caller.Agent, caller.Serial, caller.NotAfter, caller.Leaf = info.agent, info.serial, info.until, info.leaf
	verified, err := c.cfg.Verify(ctx, info.leaf, info.agent)
	if err != nil {
		return err
	}
	caller.Enrollment = verified.Enrollment
	caller.Scope = identity.ScopeOf(info.agent, verified.UID)
	return nil
}

// authenticate has the apiserver say who the person is, and whether they may look
// at what the rule names. What they sent is not looked at before.
func (c *Chain) authenticate(ctx context.Context, rule authz.Rule, caller *authz.Caller) (err error) {
	if c.cfg.Authenticate == nil || rule.Path != "" && c.cfg.Review == nil {
		return rpcerr.New(codes.PermissionDenied, reason.PermissionDenied, "people are not served here")
	}
	if caller.Name, err = c.cfg.Authenticate(ctx, caller.Token); err != nil || rule.Path == "" {
		return err
	}
	return c.cfg.Review(ctx, caller.Token, rule.Path)
}

func wrongType(rule authz.Rule, came authz.Type) error {
	if came == authz.Anonymous {
		return rpcerr.New(codes.Unauthenticated, reason.Unauthenticated, "this method needs %s", rule.Callers)
	}
	return rpcerr.New(codes.PermissionDenied, reason.PermissionDenied, "this method needs %s; the call came with %s", rule.Callers, came)
}

// recovered turns a panic into an answer that says nothing.
func (c *Chain) recovered(ctx context.Context, value any) error {
	c.panics.Inc()
	c.cfg.Log.ErrorContext(ctx, "a handler panicked", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	return rpcerr.New(codes.Internal, reason.Internal, "internal error; the hub's log has the cause").GRPCStatus().Err()
}

// levelOf says how loud a failed call is: the hub's own faults are errors,
// refusals at the door are news, the rest is the handler's to tell.
func levelOf(call *call, code codes.Code) slog.Level {
	switch {
	case code == codes.Internal || code == codes.Unknown || code == codes.DataLoss:
		return slog.LevelError
	case call.admitted:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func peerOf(ctx context.Context) *peerInfo {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, _ := p.AuthInfo.(*peerInfo)
	return info
}

func connOf(info *peerInfo) authz.Conn {
	if info == nil {
		return nil
	}
	return info.conn
}
