// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package authz says who may call which method, by type of credential, and how
// often. It is one table of values: full method → rule. It fails closed twice: a
// method without a rule is refused when called, and a server whose registered
// methods and rules differ does not start. It also has the caller as handlers
// see it. It checks no credential itself; the interceptors do.
package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
)

// Listener names the listeners that a service may be registered on.
type Listener uint8

// The two listeners of a hub; a rule may have both.
const (
	AgentListener Listener = 1 << iota
	AdminListener
)

// Type is the type of credential that a call came with. It is decided before
// anything else is looked at.
type Type uint8

// The types of callers; a rule may allow several.
const (
	// Anonymous has neither a client certificate nor a bearer token.
	Anonymous Type = 1 << iota
	// Agent has a client certificate that verified.
	Agent
	// Person has a bearer token, and no client certificate.
	Person
)

// String is the type as shown in errors and logs.
func (t Type) String() string {
	var names []string
	for _, known := range []struct {
		Type
		name string
	}{{Anonymous, "no credential"}, {Agent, "an agent certificate"}, {Person, "a bearer token"}} {
		if t&known.Type != 0 {
			names = append(names, known.name)
		}
	}
	return strings.Join(names, " or ")
}

// Rate is a rate class: what a call costs of its connection's budget. There is
// no budget over all callers here: whoever calls often would use up everybody's.
// Where the whole hub has one, sources have theirs before it (server/enroll).
type Rate struct {
	Name string
	Cost int
}

// Rule is what the table says about one method.
type Rule struct {
	Listeners Listener
	Callers   Type
	Rate      Rate
	// Longest is how long a call may take; 0 for streams that live on.
	Longest time.Duration
	// Path, if set, is a non-resource path that the person must be allowed to
	// "get" on the hub's apiserver. Methods without one ask the apiserver
	// themselves, for the very object that they touch.
	Path string
}

// ReflectionPath guards what tells about the server itself.
const ReflectionPath = "/grpc/reflection"

// Allows says whether a caller of that type may call.
func (r Rule) Allows(caller Type) bool { return r.Callers&caller != 0 }

// Table maps full method names ("/package.Service/Method") to rules.
type Table map[string]Rule

// Methods is PROTOCOL c12 as a table: every method of every service that this
// hub has or will have. A service of which one method is registered has to be
// registered with exactly the methods that stand here.
func Methods() Table {
	var (
		health  = Rule{AgentListener | AdminListener, Anonymous | Agent | Person, Rate{"health", 1}, 5 * time.Second, ""}
		watch   = Rule{AgentListener | AdminListener, Anonymous | Agent | Person, Rate{"health", 5}, 0, ""}
		enroll  = Rule{AgentListener, Anonymous | Agent, Rate{"enroll", 2}, 30 * time.Second, ""}
		poll    = Rule{AgentListener, Anonymous | Agent, Rate{"poll", 2}, time.Minute, ""}
		agent   = Rule{AgentListener, Agent, Rate{"agent", 5}, time.Minute, ""}
		session = Rule{AgentListener, Agent, Rate{"session", 10}, 0, ""}
		person  = Rule{AdminListener, Person, Rate{"admin", 1}, time.Minute, ""}
		explain = Rule{AdminListener, Person, Rate{"admin", 10}, time.Minute, ""} // looks at every cluster
		follow  = Rule{AdminListener, Person, Rate{"admin_watch", 2}, 0, ""}
		reflect = Rule{AdminListener, Person, Rate{"admin_watch", 2}, 0, ReflectionPath}
		inspect = Rule{AdminListener, Person, Rate{"admin", 1}, time.Minute, ReflectionPath}
	)
	table := Table{}
	table.add("grpc.health.v1.Health", health, "Check", "List")
	table.add("grpc.health.v1.Health", watch, "Watch")
	table.add("fairlead.agent.v1.AgentService", enroll, "Enroll")
	table.add("fairlead.agent.v1.AgentService", poll, "GetEnrollment")
	table.add("fairlead.agent.v1.AgentService", agent, "RenewCertificate", "Detach")
	table.add("fairlead.agent.v1.AgentService", session, "Session")

	table.add("fairlead.admin.v1.EnrollmentAdminService", person, "CreateJoinToken", "ListJoinTokens", "RevokeJoinToken",
		"ListEnrollments", "AcceptEnrollment", "DenyEnrollment")
	table.add("fairlead.admin.v1.EnrollmentAdminService", follow, "WatchEnrollments")
	table.add("fairlead.admin.v1.ClusterAdminService", person, "ListClusters", "GetCluster", "RevokeCluster", "DeleteCluster", "ListSessions", "KickSession")
	table.add("fairlead.admin.v1.ClusterAdminService", follow, "WatchClusters", "WatchSessions")
	table.add("fairlead.admin.v1.WorkAdminService", person, "ApplyWork", "GetWork", "ListWorks", "DeleteWork", "ExplainDelivery",
		"ListHeldDeletes", "ReleaseHeldDeletes")
	table.add("fairlead.admin.v1.WorkAdminService", follow, "WatchWorks")
	table.add("fairlead.admin.v1.PlacementAdminService", explain, "ExplainPlacement", "ExplainReplicaSet")
	table.add("fairlead.admin.v1.TrustAdminService", person, "GetTrust", "PrepareAuthority", "ActivateAuthority", "RetireAuthority")
	table.add("fairlead.scheduler.v1.SchedulerService", person, "AcquireTerm", "SubmitDecision", "ReportScores")
	table.add("fairlead.scheduler.v1.SchedulerService", follow, "WatchClusters", "WatchPlacements")

	table.add("grpc.reflection.v1.ServerReflection", reflect, "ServerReflectionInfo")
	table.add("grpc.reflection.v1alpha.ServerReflection", reflect, "ServerReflectionInfo")
	table.add("grpc.channelz.v1.Channelz", inspect, "GetTopChannels", "GetServers", "GetServer", "GetServerSockets",
		"GetChannel", "GetSubchannel", "GetSocket")
	return table
}

// Verify reports every difference between what is registered on a listener and
// the table: a method without a rule, a rule of a registered service without
// its method, a service on the wrong listener. A server with any of them must
// not start.
func (t Table) Verify(listener Listener, registered map[string]grpc.ServiceInfo) error {
	var problems []error
	for _, service := range slices.Sorted(maps.Keys(registered)) {
		methods := map[string]bool{}
		for _, m := range registered[service].Methods {
			full := "/" + service + "/" + m.Name
			methods[full] = true
			rule, ok := t[full]
			if !ok {
				problems = append(problems, fmt.Errorf("method %q is registered but has no rule", full))
			} else if rule.Listeners&listener == 0 {
				problems = append(problems, fmt.Errorf("method %q does not belong on this listener", full))
			}
		}
		for _, full := range slices.Sorted(maps.Keys(t)) {
			if strings.HasPrefix(full, "/"+service+"/") && !methods[full] {
				problems = append(problems, fmt.Errorf("method %q has a rule but is not registered", full))
			}
		}
	}
	return errors.Join(problems...)
}

func (t Table) add(service string, rule Rule, methods ...string) {
	for _, m := range methods {
		t["/"+service+"/"+m] = rule
	}
}
