// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	_ "fairlead.dev/fairlead/gen/fairlead/scheduler/v1" // the table knows it already
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/hostile"
)

// T55: every method that the table knows, of both listeners, gets zero values,
// empty submessages, every arm of a oneof, fields without end, keys twice, and
// bytes that are no message, from one who may call it. The hub answers each with
// a reason or with what was asked for, does not panic, and serves another agent's
// session the whole time.
func TestT55_every_method_gets_every_shape(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	witness, assailant := plane.Unique("t55-witness"), plane.Unique("t55-attacker")
	victim := newAgent(t, hub, witness)
	victim.join(hub.token(witness, true), false)
	served := victim.session(&agentv1.Hello{}).follow()
	attacker := newAgent(t, hub, assailant)
	attacker.join(hub.token(assailant, true), false)
	token := almighty(t, hub, plane)

	const frame = 256 << 10 // what the agent listener takes
	reached := 0
	for i, m := range tableMethods(t) {
		for _, shape := range hostile.Shapes(m.Input, frame) {
			if authz.Methods()[m.Name].Listeners&authz.AgentListener != 0 {
				attacker.attack(m, shape)
			}
		}
		if authz.Methods()[m.Name].Listeners&authz.AdminListener != 0 && attackAsPerson(t, attacker, token, m, mostOfPerson()) {
			reached++
		}
		name := fmt.Sprintf("after-%d", i)
		hub.create(newWork(witness, name, "1"))
		for got := ""; got != name; {
			select {
			case got = <-served:
			case <-time.After(patience):
				require.FailNow(t, "another session is not served any more", m.Name)
			}
		}
	}
	requireNoPanic(t, hub)
	require.GreaterOrEqual(t, reached, 20, "methods of people")
}

// request is about what the admin listener takes.
const request = 1 << 20

// mostOfPerson is how long fields without end are there. With the race detector
// they are shorter: decoding them is not our code, and takes most of the time.
func mostOfPerson() int {
	if env.Race {
		return request / 16
	}
	return request
}

// tableMethods are the methods of the table, and last those after which the
// attacker has no certificate any more.
func tableMethods(t *testing.T) []hostile.Method {
	t.Helper()
	services := map[string]grpc.ServiceInfo{}
	for name := range authz.Methods() {
		services[strings.Split(name, "/")[1]] = grpc.ServiceInfo{}
	}
	methods, err := hostile.Methods(services)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(methods), 40)
	slices.SortStableFunc(methods, func(a, b hostile.Method) int {
		switch last := func(m hostile.Method) bool { return strings.HasSuffix(m.Name, "/Detach") }; {
		case last(a) == last(b):
			return 0
		case last(a):
			return 1
		}
		return -1
	})
	return methods
}

// attack sends one shape to a method of the agent listener; to a session both
// in place of Hello and after it, twice.
func (a *rawAgent) attack(m hostile.Method, shape hostile.Shape) {
	a.t.Helper()
	conversations := [][][]byte{{shape.Bytes}}
	if strings.HasSuffix(m.Name, "/Session") {
		conversations = append(conversations, nil, [][]byte{a.helloBytes(), shape.Bytes, shape.Bytes})
	}
	for _, requests := range conversations {
		a.dial() // each has its own budget of calls
		ctx, cancel := context.WithTimeout(a.t.Context(), patience)
		err := hostile.Call(ctx, a.conn, m, requests)
		cancel()
		require.NoError(a.t, a.conn.Close())
		require.NoError(a.t, m.Fault(err), shape.Name)
	}
}

func (a *rawAgent) helloBytes() []byte {
	raw, err := proto.Marshal(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: &agentv1.Hello{
		ProtocolMin: 1, ProtocolMax: 1, AgentId: "raw", InstanceId: "instance", ClusterFingerprint: "fp-" + a.cluster,
	}}})
	require.NoError(a.t, err)
	return raw
}

// attackAsPerson sends every shape to a method of the admin listener; it tells
// whether the hub has that method. What the table knows of a later release is
// answered by gRPC itself.
func attackAsPerson(t *testing.T, a *rawAgent, token string, m hostile.Method, most int) bool {
	t.Helper()
	conn := adminConn(t, a.hub, a)
	for _, shape := range append(hostile.Shapes(m.Input, most), hostile.TooLarge(request)) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := hostile.Call(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), conn, m, [][]byte{shape.Bytes})
		cancel()
		if status.Code(err) == codes.Unimplemented && rpcerr.ReasonOf(err) == "" && strings.Contains(err.Error(), "unknown service") {
			return false
		}
		require.NoError(t, m.Fault(err), shape.Name)
		require.NotEqual(t, codes.Unauthenticated, status.Code(err), "%s is not reached: %v", m.Name, err)
	}
	return true
}

// almighty is the token of a person who may do everything.
func almighty(t *testing.T, hub *running, plane *env.Plane) string {
	t.Helper()
	name := plane.Unique("t55")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	require.NoError(t, hub.kube.Create(t.Context(), account))
	require.NoError(t, hub.kube.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: "default"}},
	}))
	config, err := plane.TokenConfig(t.Context(), "default", name)
	require.NoError(t, err)
	return config.BearerToken
}

func requireNoPanic(t *testing.T, hub *running) {
	t.Helper()
	_, text := hub.get("/metrics")
	for _, name := range []string{"fairlead_hub_panics_total", "fairlead_hub_session_panics_total"} {
		require.Contains(t, text, "\n"+name+" 0\n", "a panic that was recovered is a failure")
	}
}

// follow answers for a session from now on, and tells which objects came.
func (s *rawSession) follow() <-chan string {
	names := make(chan string, 1000)
	go func() {
		defer close(names)
		for {
			m, err := s.stream.Recv()
			if err != nil {
				return
			}
			ack := &agentv1.Ack{ProcessedSeq: m.GetSeq()}
			for _, change := range m.GetDelta().GetChanges() {
				ack.Objects = append(ack.Objects, &agentv1.ObjectAck{Key: change.GetKey(), Revision: change.GetRevision(), Code: agentv1.AckCode_ACK_CODE_STORED})
				names <- change.GetKey().GetName()
			}
			answers := []*agentv1.SessionRequest{
				{Message: &agentv1.SessionRequest_Ack{Ack: ack}}, {Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}},
			}
			for _, answer := range answers {
				if s.stream.Send(answer) != nil {
					return
				}
			}
		}
	}()
	return names
}

// T55: what may come once comes twice, what has to come does not, and what was
// said is said again.
func TestT55_hello_twice_none_and_replays(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	cluster := plane.Unique("t55-replays")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, true), false)

	s := agent.session(&agentv1.Hello{})
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: &agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, InstanceId: "instance"}}})
	requireProtocolError(t, s.end())

	agent.dial()
	stream, err := agent.api.Session(t.Context())
	require.NoError(t, err)
	_, err = stream.Recv() // nothing was sent
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	require.Equal(t, "PROTOCOL_ERROR", rpcerr.ReasonOf(err))

	agent.dial()
	stream, err = agent.api.Session(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: &agentv1.Ack{ProcessedSeq: 1}}}))
	_, err = stream.Recv()
	requireProtocolError(t, err)

	agent.dial()
	s = agent.session(&agentv1.Hello{})
	hub.create(newWork(cluster, "web", "1"))
	change := s.change("web")
	for range 3 {
		s.stored(change) // one ack again and again
	}
	item := &agentv1.ObjectStatus{
		Key: change.GetKey(), Uid: change.GetRevision().GetUid(), ObservedGeneration: change.GetRevision().GetGeneration(), StatusSeq: 2,
		ObservedDigest: change.GetRevision().GetDigest(), StatusJson: []byte(`{}`),
	}
	for range 3 { // the same again: there is nothing to store
		require.Equal(t, agentv1.StatusCode_STATUS_CODE_PERSISTED, s.status(item).GetCode())
	}
	item.StatusSeq = 0
	require.Equal(t, agentv1.StatusCode_STATUS_CODE_INVALID, s.status(item).GetCode())
	s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: &agentv1.Ack{ProcessedSeq: s.seq + 1000}}})
	requireProtocolError(t, s.end())
	requireNoPanic(t, hub)
}

func requireProtocolError(t *testing.T, err error) {
	t.Helper()
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	require.Equal(t, "PROTOCOL_ERROR", rpcerr.ReasonOf(err))
}
