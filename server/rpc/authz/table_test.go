// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	_ "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/server/rpc/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every RPC of gen has a rule and every rule of ours has an RPC, so a new RPC
// without a decision about its callers fails here.
func TestT54_every_method_has_a_rule(t *testing.T) {
	table := authz.Methods()
	var ours []string
	protoregistry.GlobalFiles.RangeFilesByPackage("fairlead.agent.v1", collect(&ours))
	protoregistry.GlobalFiles.RangeFilesByPackage("fairlead.admin.v1", collect(&ours))
	protoregistry.GlobalFiles.RangeFilesByPackage("fairlead.scheduler.v1", collect(&ours))
	require.NotEmpty(t, ours)
	for _, method := range ours {
		require.Contains(t, table, method)
	}
	var rules []string
	for method := range table {
		if strings.HasPrefix(method, "/fairlead.") {
			rules = append(rules, method)
		}
	}
	require.ElementsMatch(t, ours, rules, "a rule whose method is gone")
}

func collect(into *[]string) func(protoreflect.FileDescriptor) bool {
	return func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				*into = append(*into, "/"+string(service.FullName())+"/"+string(service.Methods().Get(j).Name()))
			}
		}
		return true
	}
}

// The type of credential decides before anything else: an agent has no
// business with admin methods, nor a person with a session.
func TestT54_types_are_disjoint(t *testing.T) {
	for method, rule := range authz.Methods() {
		switch {
		case strings.HasPrefix(method, "/fairlead.agent."):
			require.Equal(t, authz.AgentListener, rule.Listeners, method)
			require.False(t, rule.Allows(authz.Person), method)
		case strings.HasPrefix(method, "/grpc.health."):
			require.True(t, rule.Allows(authz.Anonymous), method)
		default:
			require.Equal(t, authz.AdminListener, rule.Listeners, method)
			require.Equal(t, authz.Person, rule.Callers, method)
		}
		require.Equal(t, strings.HasPrefix(method, "/grpc.reflection.") || strings.HasPrefix(method, "/grpc.channelz."), rule.Path != "", method)
		require.Positive(t, rule.Rate.Cost, "%s: a free call has no limit", method)
	}
}

func TestT54_boot_check(t *testing.T) {
	agentService := func(s *grpc.Server) { agentv1.RegisterAgentServiceServer(s, nil) }
	cases := map[string]struct {
		reason   string
		listener authz.Listener
		change   func(authz.Table)
		register func(*grpc.Server)
		want     string
	}{
		"as it should be": {reason: "the agent listener", listener: authz.AgentListener, register: func(s *grpc.Server) {
			agentv1.RegisterAgentServiceServer(s, nil)
			healthv1.RegisterHealthServer(s, health.NewServer())
		}},
		"admin listener": {reason: "third-party services have rules too", listener: authz.AdminListener, register: func(s *grpc.Server) {
			healthv1.RegisterHealthServer(s, health.NewServer())
			reflection.Register(s)
			channelz.RegisterChannelzServiceToServer(s)
		}},
		"unlisted method": {
			reason: "a method without a rule stops the boot", listener: authz.AgentListener, register: agentService,
			change: func(t authz.Table) { delete(t, "/fairlead.agent.v1.AgentService/Detach") },
			want:   `method "/fairlead.agent.v1.AgentService/Detach" is registered but has no rule`,
		},
		"stale rule": {
			reason: "a rule without its method stops the boot", listener: authz.AgentListener, register: agentService,
			change: func(t authz.Table) { t["/fairlead.agent.v1.AgentService/Old"] = authz.Rule{} },
			want:   `method "/fairlead.agent.v1.AgentService/Old" has a rule but is not registered`,
		},
		"wrong listener": {
			reason: "the agent service is not for the admin listener", listener: authz.AdminListener, register: agentService,
			want: `method "/fairlead.agent.v1.AgentService/Session" does not belong on this listener`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			server, table := grpc.NewServer(), authz.Methods()
			tc.register(server)
			if tc.change != nil {
				tc.change(table)
			}
			err := table.Verify(tc.listener, server.GetServiceInfo())
			if tc.want == "" {
				require.NoError(t, err, tc.reason)
				return
			}
			require.ErrorContains(t, err, tc.want, tc.reason)
		})
	}
}
