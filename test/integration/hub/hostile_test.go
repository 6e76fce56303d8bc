// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/env"
)

// fill sets every string and bytes field of a message, at any depth, to text,
// and every number to number.
func fill(m protoreflect.Message, text string, number int64) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.IsMap():
			m.Mutable(field).Map().Set(protoreflect.ValueOfString(text).MapKey(), protoreflect.ValueOfString(text))
		case field.IsList() && field.Message() != nil:
			element := m.Mutable(field).List().AppendMutable()
			fill(element.Message(), text, number)
		case field.IsList():
			m.Mutable(field).List().Append(scalar(field, text, number))
		case field.Message() != nil:
			fill(m.Mutable(field).Message(), text, number)
		default:
			m.Set(field, scalar(field, text, number))
		}
	}
}

func scalar(field protoreflect.FieldDescriptor, text string, number int64) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(number))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	default:
		return protoreflect.ValueOfUint64(uint64(number))
	}
}

// frames are one message of every kind with text in each of its fields.
func frames(t *testing.T, text string) []*agentv1.SessionRequest {
	t.Helper()
	oneof := (&agentv1.SessionRequest{}).ProtoReflect().Descriptor().Oneofs().ByName("message")
	var all []*agentv1.SessionRequest
	for i := range oneof.Fields().Len() {
		frame := &agentv1.SessionRequest{}
		fill(frame.ProtoReflect().Mutable(oneof.Fields().Get(i)).Message(), text, 1)
		if batch := frame.GetStatus(); batch != nil {
			for _, item := range batch.GetItems() { // whole, and of a status: as far as it can get
				item.Part, item.LastPart, item.Encoding = 0, true, agentv1.Encoding_ENCODING_IDENTITY
				item.StatusJson, item.UncompressedSize = []byte(`{}`), 2
				item.Finalized = i%2 == 0
			}
		}
		all = append(all, frame)
	}
	return all
}

// T49: an agent of one cluster tries to touch another's objects through every
// field of every message. The apiserver's audit log says that nothing was asked
// of it about the other cluster, by anybody but the test.
func TestT49_every_field_names_another_cluster(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	attacker, victim := plane.Unique("t49-attacker"), plane.Unique("t49-victim")
	agent := newAgent(t, hub, attacker)
	agent.join(hub.token(attacker, true), false)
	other := newAgent(t, hub, victim)
	other.join(hub.token(victim, true), false)
	until(t, "the victim's namespace", func() error {
		return hub.kube.Get(t.Context(), types.NamespacedName{Name: victim}, &corev1.Namespace{})
	})
	work := newWork(victim, "secret", "1")
	hub.create(work)
	require.NoError(t, hub.kube.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "mark", Namespace: victim}}))
	// Nobody answers for the victim; else the hub writes that down in a minute.
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"leaseDurationSeconds":3600}}`))
	require.NoError(t, hub.kube.Patch(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: victim}}, patch))
	since := settle(t, plane, victim)

	for _, text := range []string{
		victim, "secret", victim + "/secret", "../" + victim + "/manifestworks/secret", string(work.UID), "session-" + victim,
		"../../" + victim + "/manifestworks/secret/status?", "secret%2f..", "system:open-cluster-management:" + victim + ":agent",
	} {
		for _, frame := range frames(t, text) {
			agent.dial() // each has its own budget of calls
			hello := &agentv1.Hello{}
			if frame.GetHello() != nil {
				hello = proto.CloneOf(frame.GetHello())
				hello.Window = nil
			}
			s := agent.session(hello)
			if batch := frame.GetStatus(); batch != nil {
				batch.SessionEpoch = s.welcome.GetSessionEpoch()
			}
			_ = s.stream.Send(frame)
			_ = s.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{}})
			s.drainFor(200 * time.Millisecond)
			s.cancel()
		}
		_, _ = agent.api.GetEnrollment(t.Context(), &agentv1.GetEnrollmentRequest{EnrollmentId: text, Proof: []byte(text), Challenge: []byte(text)})
		_, _ = agent.api.RenewCertificate(t.Context(), &agentv1.RenewCertificateRequest{CsrDer: []byte(text)})
	}
	_, err := agent.api.Detach(t.Context(), &agentv1.DetachRequest{Reason: victim, LeaveWorkloads: true})
	require.NoError(t, err)
	t.Run("RQ-02_nothing_was_asked_about_another_cluster", func(t *testing.T) {
		asked, _ := requests(t, plane, victim, since)
		for _, event := range asked {
			t.Errorf("%s %s by %s", event.Verb, event.RequestURI, event.User.Username)
		}
	})
}

// drainFor receives for a while, until everything that was sent has had its
// effect, or the hub has ended the session for it.
func (s *rawSession) drainFor(d time.Duration) {
	cut := time.AfterFunc(d, s.cancel)
	defer cut.Stop()
	_ = s.end()
}

// requests are what the apiserver was asked about a cluster's objects after a
// place in its audit log, but for what this test asked; and the next place.
func requests(t *testing.T, plane *env.Plane, cluster string, place int64) ([]auditv1.Event, int64) {
	t.Helper()
	events, next, err := plane.AuditEventsFrom(place, func(e *auditv1.Event) bool {
		return about(e, cluster) && !strings.HasPrefix(e.UserAgent, "hub.test")
	})
	require.NoError(t, err)
	return events, next
}

// about tells whether a request is about something of a cluster: in its
// namespace, or named after it anywhere but in another cluster's namespace.
func about(e *auditv1.Event, cluster string) bool {
	object := e.ObjectRef
	if object == nil {
		return strings.Contains(e.RequestURI, cluster)
	}
	if object.Namespace == "" || object.Namespace == identity.HubNamespace {
		return strings.Contains(object.Name, cluster)
	}
	return object.Namespace == cluster
}

// settle waits until nobody asks about a cluster any more, and returns the place
// in the audit log up to which somebody did.
func settle(t *testing.T, plane *env.Plane, cluster string) int64 {
	t.Helper()
	last := time.Now()
	var place int64
	until(t, "the cluster to be at rest", func() error {
		var events []auditv1.Event
		if events, place = requests(t, plane, cluster, place); len(events) > 0 {
			last = time.Now()
		}
		if time.Since(last) < 3*time.Second {
			return errors.New("something asked about it a moment ago")
		}
		return nil
	})
	return place
}
