// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// fill sets every field of a message, at any depth: strings and bytes to text,
// numbers to number, lists and maps to one element. Of a oneof the field named
// by arm is set, in the outermost message.
func fill(m protoreflect.Message, arm protoreflect.Name, text string, number int64) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.ContainingOneof() != nil && arm != "" && field.Name() != arm {
			continue
		}
		switch {
		case field.IsMap():
			m.Mutable(field).Map().Set(protoreflect.ValueOfString(text).MapKey(), protoreflect.ValueOfString(text))
		case field.IsList():
			list := m.Mutable(field).List()
			if field.Message() != nil {
				element := list.NewElement()
				fill(element.Message(), "", text, number)
				list.Append(element)
				continue
			}
			list.Append(scalar(field, text, number))
		case field.Message() != nil:
			fill(m.Mutable(field).Message(), "", text, number)
		default:
			m.Set(field, scalar(field, text, number))
		}
	}
}

func scalar(field protoreflect.FieldDescriptor, text string, number int64) protoreflect.Value {
	switch field.Kind() { //nolint:exhaustive // the other kinds are not in the contract
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(number%2 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(number))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	}
	panic("a kind of field that this test does not know: " + field.Kind().String()) //nolint:forbidigo // the contract has grown
}

// arms are the messages that an agent may send in a session.
func arms() []protoreflect.Name {
	oneof := (&agentv1.SessionRequest{}).ProtoReflect().Descriptor().Oneofs().ByName("message")
	var names []protoreflect.Name
	for i := range oneof.Fields().Len() {
		names = append(names, oneof.Fields().Get(i).Name())
	}
	return names
}

// T49: an agent of c1 puts names of c2 into every field of every message. What
// is behind the face is only ever asked about c1. (The same on a real apiserver,
// by its audit log, is in test/integration/hub.)
func TestT49_no_message_selects_a_cluster(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		h.kitchen.put("c2", "web", 10)
		h.kitchen.put("c1", "web", 10)
		conn := h.server.Dial(t, h.keys.Agent(t, "c1", "uid", time.Hour))
		api := agentv1.NewAgentServiceClient(conn)
		for _, text := range []string{"c2", "c2/web", "../c2/web", "uid-web", "system:open-cluster-management:c2:agent", "web"} {
			for number := range int64(5) {
				for _, arm := range arms() {
					frame := &agentv1.SessionRequest{}
					fill(frame.ProtoReflect(), arm, text, number)
					sendHostile(t, h, conn, frame)
				}
				renew, detach := &agentv1.RenewCertificateRequest{}, &agentv1.DetachRequest{}
				fill(renew.ProtoReflect(), "", text, number)
				fill(detach.ProtoReflect(), "", text, number)
				_, _ = api.RenewCertificate(t.Context(), renew)
				_, _ = api.Detach(t.Context(), detach)
				<-time.After(5 * time.Second) // the connection's budget of calls
			}
		}
		h.kitchen.mu.Lock()
		defer h.kitchen.mu.Unlock()
		require.Equal(t, []string{"c1"}, slices.Collect(maps.Keys(h.kitchen.touched)))
		require.NotEmpty(t, h.kitchen.of("c1").reports, "the messages got through")
		require.NotEmpty(t, h.kitchen.of("c1").statuses, "the messages got through")
		for _, s := range h.kitchen.of("c1").statuses {
			require.NotContains(t, s.Key.Name, "/", "a name that is a path does not get behind the face")
		}
	})
}

// sendHostile opens a session, sends one frame and two more, and goes.
func sendHostile(t *testing.T, h *hubFake, conn *grpc.ClientConn, frame *agentv1.SessionRequest) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hello := &agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, InstanceId: "i"}
	if frame.GetHello() != nil {
		hello = proto.CloneOf(frame.GetHello())
		hello.ProtocolMin, hello.ProtocolMax = 1, 1
	}
	a, err := h.open(ctx, conn, hello)
	if err != nil {
		require.NotEqual(t, codes.ResourceExhausted, status.Code(err), "the test is too fast")
		return
	}
	if batch := frame.GetStatus(); batch != nil {
		batch.SessionEpoch = a.welcome.GetSessionEpoch()
		for _, item := range batch.GetItems() { // whole, so that it gets as far as it can
			item.Part, item.LastPart, item.Encoding = 0, true, agentv1.Encoding_ENCODING_IDENTITY
			item.UncompressedSize = uint64(len(item.GetStatusJson()))
		}
	}
	_ = a.stream.Send(frame)
	_ = a.stream.Send(beat())
	_ = a.stream.Send(frame)
	synctest.Wait()
}

// T55: nothing that an agent may send crashes the hub or touches another
// session. Empty messages, nil ones, twice what may come once.
func TestT55_garbage(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		witness := h.connect("witness")
		conn := h.server.Dial(t, h.keys.Agent(t, "c1", "uid", time.Hour))
		frames := map[string]*agentv1.SessionRequest{
			"nothing":           {},
			"hello twice":       helloFrame(&agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, InstanceId: "i"}),
			"ack of the future": {Message: &agentv1.SessionRequest_Ack{Ack: &agentv1.Ack{ProcessedSeq: 1 << 60}}},
			"nil elements": {Message: &agentv1.SessionRequest_Status{Status: &agentv1.StatusBatch{
				SessionEpoch: 1, Items: []*agentv1.ObjectStatus{{}, {Key: &agentv1.ObjectKey{}}},
			}}},
			"many": {Message: &agentv1.SessionRequest_Inventory{Inventory: &agentv1.InventoryReply{
				Last: true, Buckets: make([]*agentv1.Bucket, 2000),
			}}},
			"time out of range": {Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{Sent: &timestamppb.Timestamp{Seconds: -1 << 62, Nanos: -5}}}},
		}
		for i := range frames["many"].GetInventory().GetBuckets() {
			frames["many"].GetInventory().GetBuckets()[i] = &agentv1.Bucket{Index: uint32(i), Entries: []*agentv1.InventoryEntry{{}}}
		}
		for _, arm := range arms() {
			empty, negative := &agentv1.SessionRequest{}, &agentv1.SessionRequest{}
			m := empty.ProtoReflect()
			m.Set(m.Descriptor().Fields().ByName(arm), protoreflect.ValueOfMessage(m.NewField(m.Descriptor().Fields().ByName(arm)).Message()))
			frames["empty "+string(arm)] = empty
			fill(negative.ProtoReflect(), arm, "\x00\u202e", -1)
			frames["negative "+string(arm)] = negative
		}
		for name, frame := range frames {
			before, cancel := context.WithCancel(t.Context())
			stream, err := agentv1.NewAgentServiceClient(conn).Session(before)
			require.NoError(t, err)
			_ = stream.Send(frame) // instead of a hello
			synctest.Wait()
			cancel()
			sendHostile(t, h, conn, frame)
			require.Zero(t, h.metric("panics_total")+h.metric("session_panics_total"), name)
			<-time.After(time.Second)
		}
		h.kitchen.put("witness", "web", 10)
		require.NotNil(t, witness.change("web"), "other sessions are not touched")
	})
}

// No Hello within ten seconds, or anything else in its place, is an error that
// says so.
func TestT55_no_hello(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		conn := h.server.Dial(t, h.keys.Agent(t, "c1", "uid", time.Hour))
		stream, err := agentv1.NewAgentServiceClient(conn).Session(t.Context())
		require.NoError(t, err)
		begun := time.Now()
		_, err = stream.Recv()
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.Equal(t, helloTimeout, time.Since(begun))

		stream, err = agentv1.NewAgentServiceClient(conn).Session(t.Context())
		require.NoError(t, err)
		require.NoError(t, stream.Send(beat()))
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.ErrorContains(t, err, "Hello")
	})
}

// T24, T57: what is too large, or compressed, is refused before it is unpacked.
func TestT24_compressed_or_too_large(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		a := h.connect("c1")
		require.NoError(t, a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Goodbye{Goodbye: &agentv1.Goodbye{
			Reason: string(make([]byte, 400<<10)),
		}}}))
		err := a.live()
		require.Error(t, err)
		require.Zero(t, h.metric("panics_total"), fmt.Sprint(err))
	})
}
