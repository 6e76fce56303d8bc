// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package interceptor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/interceptor"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/server/rpc/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reached answers OK to every method that has no other handler: the call has
// passed all checks.
type reached struct {
	agentv1.UnimplementedAgentServiceServer
	seen func(context.Context)
}

func everything(seen func(context.Context)) func(*grpc.Server) {
	return func(s *grpc.Server) {
		agentv1.RegisterAgentServiceServer(s, reached{seen: seen})
		healthv1.RegisterHealthServer(s, healthv1.UnimplementedHealthServer{})
		adminv1.RegisterEnrollmentAdminServiceServer(s, adminv1.UnimplementedEnrollmentAdminServiceServer{})
		adminv1.RegisterClusterAdminServiceServer(s, adminv1.UnimplementedClusterAdminServiceServer{})
		adminv1.RegisterWorkAdminServiceServer(s, adminv1.UnimplementedWorkAdminServiceServer{})
		adminv1.RegisterTrustAdminServiceServer(s, adminv1.UnimplementedTrustAdminServiceServer{})
		adminv1.RegisterPlacementAdminServiceServer(s, adminv1.UnimplementedPlacementAdminServiceServer{})
		schedulerv1.RegisterSchedulerServiceServer(s, schedulerv1.UnimplementedSchedulerServiceServer{})
	}
}

func (r reached) Detach(ctx context.Context, _ *agentv1.DetachRequest) (*agentv1.DetachResponse, error) {
	r.seen(ctx)
	return &agentv1.DetachResponse{}, nil
}

func chain(listener authz.Listener, registry *prometheus.Registry) interceptor.Config {
	return interceptor.Config{
		Listener: listener, Table: authz.Methods(), Registry: registry, Log: slog.New(slog.DiscardHandler),
		Verify: func(_ context.Context, _ *x509.Certificate, agent identity.Agent) (interceptor.Verified, error) {
			if agent.Cluster == "revoked" {
				return interceptor.Verified{}, rpcerr.New(codes.PermissionDenied, reason.Revoked, "revoked")
			}
			return interceptor.Verified{UID: "uid-of-" + agent.Cluster, Enrollment: "enr"}, nil
		},
		Authenticate: func(_ context.Context, token string) (string, error) {
			if token == "made up" {
				return "", rpcerr.New(codes.Unauthenticated, reason.Unauthenticated, "nobody's token")
			}
			return "alice", nil
		},
	}
}

// invoke calls any method with an empty message, as a stream of one.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string, bearer string) error {
	if bearer != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", bearer)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(&emptypb.Empty{}) // the answer says what is wrong
	_ = stream.CloseSend()
	return stream.RecvMsg(&emptypb.Empty{})
}

// Verdicts of a call, as the caller sees them.
const (
	pass   = "pass"    // got to a handler
	none   = "no cred" // UNAUTHENTICATED
	denied = "denied"  // PERMISSION_DENIED
	dead   = "dead"    // no connection
)

func verdict(err error) string {
	switch status.Code(err) { //nolint:exhaustive // only these can come
	case codes.OK, codes.Unimplemented:
		return pass
	case codes.Unauthenticated:
		return none
	case codes.PermissionDenied:
		return denied
	case codes.Unavailable:
		return dead
	}
	return err.Error()
}

// The matrix of PROTOCOL c12: every method of every service against every kind
// of caller. The expectation is written down here by service, not read from the
// table.
func TestT54_every_method_by_every_caller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, foreign := rpctest.NewPKI(t), rpctest.NewPKI(t)
		callers := map[string]struct {
			cert   *tls.Certificate
			bearer string
		}{
			"none":             {},
			"agent":            {cert: keys.Agent(t, "c1", "uid", time.Hour)},
			"revoked":          {cert: keys.Agent(t, "revoked", "uid", time.Hour)},
			"expired":          {cert: keys.Agent(t, "c1", "uid", -time.Minute)},
			"foreign":          {cert: foreign.Agent(t, "c1", "uid", time.Hour)},
			"serving cert":     {cert: rpctest.IssueBy(t, keys.Serving, func(c *x509.Certificate) { c.Subject = identity.Subject("c1", "agent") })},
			"not an agent":     {cert: keys.Issue(t, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "system:admin"} })},
			"person":           {bearer: "Bearer token"},
			"person and agent": {cert: keys.Agent(t, "c1", "uid", time.Hour), bearer: "Bearer token"},
			"nobody":           {bearer: "Bearer made up"},
			"basic auth":       {bearer: "Basic dXNlcjpwYXNz"},
			"empty token":      {bearer: "Bearer "},
		}
		want := map[string]map[string]string{
			"Enroll":           {"none": pass, "agent": pass, "revoked": pass, "not an agent": pass, "person": denied},
			"GetEnrollment":    {"none": pass, "agent": pass, "revoked": pass, "not an agent": pass, "person": denied},
			"RenewCertificate": {"none": none, "agent": pass, "revoked": denied, "not an agent": none, "person": denied},
			"Detach":           {"none": none, "agent": pass, "revoked": denied, "not an agent": none, "person": denied},
			"Session":          {"none": none, "agent": pass, "revoked": denied, "not an agent": none, "person": denied},
			"health":           {"none": pass, "agent": pass, "revoked": pass, "not an agent": pass, "person": pass, "nobody": pass},
			"people":           {"none": none, "agent": denied, "revoked": denied, "not an agent": denied, "person": pass, "nobody": none},
			"not here":         {"none": denied, "agent": denied, "revoked": denied, "not an agent": denied, "person": denied},
		}
		for _, row := range want {
			if row["nobody"] == "" {
				row["nobody"] = denied // by the type of credential: nobody is asked whose token it is
			}
			// these never get anywhere
			for _, caller := range []string{"expired", "foreign", "serving cert"} {
				row[caller] = dead
			}
			for _, caller := range []string{"person and agent", "basic auth", "empty token"} {
				row[caller] = none
			}
		}
		for _, caller := range []string{"person and agent", "basic auth", "empty token"} {
			want["not here"][caller] = denied // the method comes before the credential
		}
		for _, listener := range []authz.Listener{authz.AgentListener, authz.AdminListener} {
			server := rpctest.Serve(t, keys, chain(listener, prometheus.NewRegistry()), everything(func(context.Context) {}))
			for method := range authz.Methods() {
				if strings.HasPrefix(method, "/grpc.") && !strings.HasPrefix(method, "/grpc.health.") {
					continue // not registered in this test
				}
				row := want[rowOf(listener, method)]
				for name, caller := range callers {
					err := invoke(t.Context(), server.Dial(t, caller.cert), method, caller.bearer)
					require.Equal(t, row[name], verdict(err), "%s by %q: %v", method, name, err)
				}
			}
			require.Error(t, invoke(t.Context(), server.DialPlain(t), "/grpc.health.v1.Health/Check", ""), "no plaintext")
		}
	})
}

func rowOf(listener authz.Listener, method string) string {
	parts := strings.Split(method, "/")
	service, name := parts[1], parts[2]
	switch {
	case strings.HasPrefix(service, "grpc.health."):
		return "health"
	case (service == "fairlead.agent.v1.AgentService") != (listener == authz.AgentListener):
		return "not here"
	case listener == authz.AgentListener:
		return name
	}
	return "people"
}

func TestT54_paths_that_are_no_method(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, reachedIt := rpctest.NewPKI(t), false
		server := rpctest.Serve(t, keys, chain(authz.AgentListener, prometheus.NewRegistry()), everything(func(context.Context) { reachedIt = true }))
		conn := server.Dial(t, keys.Agent(t, "c1", "uid", time.Hour))
		for _, path := range []string{
			"//fairlead.agent.v1.AgentService/Detach", "/fairlead.agent.v1.AgentService//Detach", "fairlead.agent.v1.AgentService/Detach",
			"/fairlead.agent.v1.AgentService/detach", "/fairlead.agent.v1.AgentService%2fDetach", "/fairlead.agent.v1.AgentService/Detach/",
			"/fairlead.agent.v1.AgentService/", "/", "/FAIRLEAD.AGENT.V1.AGENTSERVICE/Detach", "/fairlead.agent.v1.AgentService/Detach?x",
		} {
			require.Error(t, invoke(t.Context(), conn, path, ""), path)
		}
		require.False(t, reachedIt)
		require.NoError(t, invoke(t.Context(), conn, "/fairlead.agent.v1.AgentService/Detach", ""), "the right one works")
	})
}

func TestCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := rpctest.NewPKI(t)
		var got *authz.Caller
		var deadline time.Time
		server := rpctest.Serve(t, keys, chain(authz.AgentListener, prometheus.NewRegistry()), everything(func(ctx context.Context) {
			got = authz.CallerOf(ctx)
			deadline, _ = ctx.Deadline()
		}))
		cert := keys.Agent(t, "c1", "uid-of-c1", time.Hour)
		var header metadata.MD
		_, err := agentv1.NewAgentServiceClient(server.Dial(t, cert)).Detach(t.Context(), &agentv1.DetachRequest{}, grpc.Header(&header))
		require.NoError(t, err)
		require.Equal(t, "c1", got.Scope.Cluster())
		require.Equal(t, "uid-of-c1", got.Scope.UID(), "the UID is what the record says")
		require.Equal(t, "enr", got.Enrollment)
		require.Equal(t, pki.Serial(cert.Leaf), got.Serial)
		require.Equal(t, cert.Leaf.NotAfter, got.NotAfter)
		require.Equal(t, []string{got.RequestID}, header.Get("x-request-id"))
		require.Positive(t, got.Conn.Written())
		require.Equal(t, time.Minute, time.Until(deadline), "a call without a deadline gets the cap")
		parsed, err := got.Certificate()
		require.NoError(t, err)
		require.True(t, parsed.Equal(cert.Leaf))
	})
}

// Headers in which load balancers that end TLS tell whom they have seen count
// for nothing: neither do they make a caller, nor change who one is.
func TestT48_forwarded_identities_are_not_trusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := rpctest.NewPKI(t)
		var got *authz.Caller
		server := rpctest.Serve(t, keys, chain(authz.AgentListener, prometheus.NewRegistry()), everything(func(ctx context.Context) { got = authz.CallerOf(ctx) }))
		other := keys.Agent(t, "c2", "uid-of-c2", time.Hour)
		encoded := string(pki.EncodeCertificates(other.Leaf))
		forged := metadata.Pairs(
			"x-forwarded-client-cert", `Hash=00;Subject="`+other.Leaf.Subject.String()+`";URI=`+other.Leaf.URIs[0].String()+`;Cert="`+url.QueryEscape(encoded)+`"`,
			"x-client-cert", url.QueryEscape(encoded), "ssl-client-cert", url.QueryEscape(encoded), "x-ssl-client-cert", url.QueryEscape(encoded),
			"x-amzn-mtls-clientcert", url.QueryEscape(encoded), "client-cert", ":"+base64.StdEncoding.EncodeToString(other.Leaf.Raw)+":",
			"x-ssl-client-verify", "SUCCESS", "x-ssl-client-s-dn", other.Leaf.Subject.String(), "x-remote-user", identity.User("c2", "agent"), "forwarded", "for=10.0.0.1",
		)
		ctx := metadata.NewOutgoingContext(t.Context(), forged)
		_, err := agentv1.NewAgentServiceClient(server.Dial(t, nil)).Detach(ctx, &agentv1.DetachRequest{})
		require.Equal(t, codes.Unauthenticated, status.Code(err))
		require.Nil(t, got)
		_, err = agentv1.NewAgentServiceClient(server.Dial(t, keys.Agent(t, "c1", "uid-of-c1", time.Hour))).Detach(ctx, &agentv1.DetachRequest{})
		require.NoError(t, err)
		require.Equal(t, "c1", got.Scope.Cluster(), "it is who its certificate says")
	})
}

func TestT55_panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, registry := rpctest.NewPKI(t), prometheus.NewRegistry()
		var log bytes.Buffer
		cfg := chain(authz.AgentListener, registry)
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		server := rpctest.Serve(t, keys, cfg, everything(func(context.Context) { panic("secret internals") })) //nolint:forbidigo // what is tested
		conn := server.Dial(t, keys.Agent(t, "c1", "uid", time.Hour))
		err := invoke(t.Context(), conn, "/fairlead.agent.v1.AgentService/Detach", "")
		require.Equal(t, codes.Internal, status.Code(err))
		require.NotContains(t, err.Error(), "secret")
		require.Contains(t, log.String(), "secret internals", "the log has the cause")
		require.Equal(t, 1.0, rpctest.Metric(t, registry, "fairlead_hub_panics_total"))
	})
}

func TestT57_calls_on_one_connection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := rpctest.NewPKI(t)
		server := rpctest.Serve(t, keys, chain(authz.AgentListener, prometheus.NewRegistry()), everything(func(context.Context) {}))
		conn := server.Dial(t, keys.Agent(t, "c1", "uid", time.Hour))
		var err error
		for range 100 {
			if err = invoke(t.Context(), conn, "/fairlead.agent.v1.AgentService/Detach", ""); err != nil {
				break
			}
		}
		require.Equal(t, codes.ResourceExhausted, status.Code(err), "a connection has a budget")
		require.Equal(t, reason.RateLimited, rpcerr.ReasonOf(err))
		require.Equal(t, time.Second, rpcerr.RetryAfterOf(err))
		other := server.Dial(t, keys.Agent(t, "c2", "uid", time.Hour))
		require.NoError(t, invoke(t.Context(), other, "/fairlead.agent.v1.AgentService/Detach", ""), "others are not touched")
	})
}

// T52: who has shown no credential waits for the answer that they ask too often, so
// that a flood of them is as slow as its connections are many; an agent does not.
func TestT52_who_asks_too_often_waits_for_the_answer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := rpctest.NewPKI(t)
		server := rpctest.Serve(t, keys, chain(authz.AgentListener, prometheus.NewRegistry()), everything(func(context.Context) {}))
		for certificate, detained := range map[*tls.Certificate]time.Duration{nil: 3 * time.Second, keys.Agent(t, "c1", "uid", time.Hour): 0} {
			conn := server.Dial(t, certificate)
			var err error
			begun := time.Now()
			for range 300 {
				begun = time.Now()
				if err = invoke(t.Context(), conn, "/fairlead.agent.v1.AgentService/Enroll", ""); rpcerr.ReasonOf(err) == reason.RateLimited {
					break
				}
			}
			require.Equal(t, reason.RateLimited, rpcerr.ReasonOf(err))
			require.Equal(t, detained, time.Since(begun))
		}
	})
}

func TestFailures_are_logged_once_without_secrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := rpctest.NewPKI(t)
		var log bytes.Buffer
		cfg := chain(authz.AgentListener, prometheus.NewRegistry())
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		cfg.Verify = func(context.Context, *x509.Certificate, identity.Agent) (interceptor.Verified, error) {
			return interceptor.Verified{}, errors.New("reading the cache: etcd is gone")
		}
		server := rpctest.Serve(t, keys, cfg, everything(func(context.Context) {}))
		err := invoke(t.Context(), server.Dial(t, keys.Agent(t, "c1", "uid", time.Hour)), "/fairlead.agent.v1.AgentService/Detach", "")
		require.NotContains(t, err.Error(), "etcd", "what happened inside stays inside")
		require.Equal(t, 1, strings.Count(log.String(), "etcd is gone"))
		err = invoke(t.Context(), server.Dial(t, nil), "/fairlead.agent.v1.AgentService/Detach", "Bearer hunter2")
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		require.NotContains(t, log.String(), "hunter2")
	})
}
