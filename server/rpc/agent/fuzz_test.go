// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpctest"
	"fairlead.dev/fairlead/test/hostile"
)

// How FuzzMethods makes requests of data.
const (
	asFrames   = iota // length and bytes, again and again
	asMessages        // choices of hostile.Random
	asSession         // the same, after a good Hello
	modes
)

// FuzzMethods calls any method of AgentService, through the real chain, with
// anything. Each call ends by itself with an error that has a reason, nothing
// panics, and the session of another cluster is served on.
func FuzzMethods(f *testing.F) {
	h := startHubOf(f, rpctest.Free(authz.Methods()))
	h.kitchen.put("c1", "web", 300)
	served := follow(h.connect("witness"))
	conn := h.server.Dial(f, h.keys.Agent(f, "c1", "uid", 240*time.Hour))
	methods, err := hostile.Methods(h.server.GRPC.GetServiceInfo())
	require.NoError(f, err)
	seedMethods(f, methods)
	f.Fuzz(func(t *testing.T, method, mode byte, data []byte) {
		m := methods[int(method)%len(methods)]
		requests := requestsOf(t, m, mode, data)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, m.Fault(hostile.Call(ctx, conn, m, requests)))
		require.Zero(t, rpctest.Metric(t, h.registry, "fairlead_hub_panics_total"), m.Name)
		require.Zero(t, rpctest.Metric(t, h.registry, "fairlead_hub_session_panics_total"), m.Name)
		h.kitchen.put("witness", "web", 10)
		select {
		case _, alive := <-served:
			require.True(t, alive, "another session ended")
		case <-ctx.Done():
			require.Fail(t, "another session is not served any more")
		}
		h.kitchen.forget("c1")
	})
}

// follow keeps a session alive however long nothing happens, and tells of each
// change that was sent on it.
func follow(a *agentFake) <-chan struct{} {
	served := make(chan struct{}, 1)
	go func() {
		defer close(served)
		for {
			m, err := a.stream.Recv()
			if err != nil {
				return
			}
			ack := &agentv1.Ack{ProcessedSeq: m.GetSeq()}
			for _, change := range m.GetDelta().GetChanges() {
				ack.Objects = append(ack.Objects, &agentv1.ObjectAck{Key: change.GetKey(), Revision: change.GetRevision(), Code: agentv1.AckCode_ACK_CODE_STORED})
				served <- struct{}{}
			}
			if a.stream.Send(beat()) != nil || a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Ack{Ack: ack}}) != nil {
				return
			}
		}
	}()
	return served
}

// forget drops what was written down about a cluster, so that a long run does
// not grow, and makes its one work exist anew.
func (k *kitchen) forget(cluster string) {
	k.see(cluster, func(c *clusterFake) {
		c.statuses, c.reports, c.held, c.marks, c.givenUp, c.released = nil, nil, nil, nil, nil, nil
	})
}

func requestsOf(t testing.TB, m hostile.Method, mode byte, data []byte) (requests [][]byte) {
	t.Helper()
	if mode%modes == asFrames {
		return cutFrames(data)
	}
	if mode%modes == asSession && m.ClientStreams {
		requests = append(requests, marshal(t, helloFrame(&agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, InstanceId: "i"})))
	}
	random := hostile.NewRandom(data, "web", "uid-web", "c1", "i", "c2", "../c2", "{}", `{"conditions":[{"type":"Applied","status":"True"}]}`)
	for len(requests) < 20 && !random.Done() {
		requests = append(requests, random.Message(m.Input))
	}
	return requests
}

func cutFrames(data []byte) (frames [][]byte) {
	for len(data) >= 2 {
		n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
		frames = append(frames, data[2:2+n])
		data = data[2+n:]
	}
	return frames
}

func asOneInput(frames ...[]byte) (data []byte) {
	for _, frame := range frames {
		data = binary.BigEndian.AppendUint16(data, uint16(len(frame)))
		data = append(data, frame...)
	}
	return data
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	require.NoError(t, err)
	return raw
}

// seedMethods adds a good conversation, and every bad shape of every request.
func seedMethods(f *testing.F, methods []hostile.Method) {
	f.Helper()
	key := &agentv1.ObjectKey{Kind: agentv1.ObjectKind_OBJECT_KIND_WORK, Name: "web"}
	revision := wire.Revision{UID: "uid-web", Generation: 1}.Proto()
	hello := marshal(f, helloFrame(&agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, InstanceId: "i", Resume: &agentv1.ResumeState{StoreEpoch: "e", DesiredCount: 100}}))
	session := [][]byte{hello}
	for _, request := range []*agentv1.SessionRequest{
		beat(),
		{Message: &agentv1.SessionRequest_Inventory{Inventory: &agentv1.InventoryReply{Last: true, Buckets: []*agentv1.Bucket{{Digest: make([]byte, 32)}}}}},
		{Message: &agentv1.SessionRequest_Inventory{Inventory: &agentv1.InventoryReply{Last: true, Buckets: []*agentv1.Bucket{{Entries: []*agentv1.InventoryEntry{{Key: key, Revision: revision}}}}}}},
		{Message: &agentv1.SessionRequest_Ack{Ack: &agentv1.Ack{ProcessedSeq: 3, Objects: []*agentv1.ObjectAck{{Key: key, Revision: revision, Code: agentv1.AckCode_ACK_CODE_RETRY}}}}},
		{Message: &agentv1.SessionRequest_Status{Status: &agentv1.StatusBatch{SessionEpoch: 1, Items: []*agentv1.ObjectStatus{{
			Key: key, Uid: "uid-web", StatusSeq: 1, StatusJson: []byte("{}"), UncompressedSize: 2, LastPart: true, Encoding: agentv1.Encoding_ENCODING_IDENTITY,
		}}}}},
		{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: &agentv1.ClusterReport{Held: []*agentv1.HeldBatch{{BatchId: "b"}}}}},
		{Message: &agentv1.SessionRequest_Events{Events: &agentv1.EventBatch{Events: []*agentv1.ClusterEvent{{Regarding: key}}}}},
	} {
		session = append(session, marshal(f, request))
	}
	for i, m := range methods {
		if m.ClientStreams {
			f.Add(byte(i), byte(asFrames), asOneInput(session...))
			f.Add(byte(i), byte(asFrames), asOneInput(hello, hello))
		}
		for _, shape := range hostile.Shapes(m.Input, 1<<10) {
			if m.ClientStreams {
				f.Add(byte(i), byte(asFrames), asOneInput(hello, shape.Bytes, shape.Bytes))
			}
			f.Add(byte(i), byte(asFrames), asOneInput(shape.Bytes))
		}
		f.Add(byte(i), byte(asMessages), []byte("\x01\x02\xff\x03some choices\x00\x01"))
		f.Add(byte(i), byte(asSession), []byte("\x03\x01\x01\x02\x01\x01\x00\x00"))
	}
}
