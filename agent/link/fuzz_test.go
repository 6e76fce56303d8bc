// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/hostile"
)

func newFuzzedLink(t testing.TB, c *codec.Codec, store *memoryStore) *Link {
	t.Helper()
	l, err := New(Config{
		Endpoints: []string{"x"}, Credentials: &testCredentials{}, Store: store, Hub: store, Log: discard(), Identity: Identity{InstanceID: "i"},
		Codec: c, StoreParallel: 1, ClusterReport: func() ClusterReport { return ClusterReport{} },
	})
	require.NoError(t, err)
	return l
}

// FuzzFrames is a session with a hub that sends anything. It goes on, or it ends
// with a reason; what the agent says can be sent; what it keeps has the digest
// that it was announced with; and it deletes only what it was told to delete for
// one of the two reasons there are.
func FuzzFrames(f *testing.F) {
	c, err := codec.New(wire.MaxObject)
	require.NoError(f, err)
	descriptor := (&agentv1.SessionResponse{}).ProtoReflect().Descriptor()
	for _, shape := range hostile.Shapes(descriptor, 1<<10) {
		f.Add(false, oneInput(shape.Bytes))
	}
	for _, shape := range hostile.Shapes((&agentv1.Directive{}).ProtoReflect().Descriptor(), 1<<10) {
		var directive agentv1.Directive
		if proto.Unmarshal(shape.Bytes, &directive) == nil {
			f.Add(false, oneInput(response(f, &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Directive{Directive: &directive}})))
		}
	}
	f.Add(false, oneInput(
		response(f, deltaOf(upsert("a", 1, []byte("x")), remove("held", "uid-held", agentv1.DeleteReason_DELETE_REASON_ORPHAN))),
		response(f, deltaOf(remove("held", "uid-other", agentv1.DeleteReason_DELETE_REASON_REQUESTED))),
		response(f, &agentv1.SessionResponse{Message: &agentv1.SessionResponse_InventoryRequest{InventoryRequest: &agentv1.InventoryRequest{Buckets: []uint32{1, 300}}}}),
	))
	f.Add(true, []byte("\x02\x01\x01\x01\x01\x01\x01\x02\x03"))
	f.Fuzz(func(t *testing.T, chosen bool, data []byte) {
		store := newMemoryStore()
		store.held[work1("held")] = revision("uid-held", 1, []byte("held"))
		l := newFuzzedLink(t, c, store)
		l.Report(Status{Key: work1("held"), UID: "uid-held", JSON: []byte("{}")})
		steps, err := l.Begin(t.Context(), &agentv1.SessionResponse{Seq: 1, Message: &agentv1.SessionResponse_Welcome{Welcome: &agentv1.Welcome{
			HubId: "h", HubEpoch: "e", SessionEpoch: 1, Protocol: wire.ProtocolVersion,
		}}})
		require.NoError(t, err)
		told := map[Delete]bool{}
		for i, raw := range framesOf(chosen, data) {
			var frame agentv1.SessionResponse
			if proto.Unmarshal(raw, &frame) != nil {
				return
			}
			if frame.GetSeq()%8 != 7 { // mostly the right number
				frame.Seq = uint64(i + 2)
			}
			noteDeletes(told, &frame)
			err := steps.Receive(&frame)
			for did := err == nil; did && err == nil; {
				did, err = steps.Work(t.Context())
			}
			if err != nil {
				var why *Ended
				require.ErrorAs(t, err, &why)
				require.NotEmpty(t, why.Reason)
				break
			}
			requireSendable(t, steps)
		}
		for _, d := range store.deletes {
			require.True(t, told[Delete{Key: d.Key, Revision: wire.Revision{UID: d.Revision.UID}, Orphan: d.Orphan}], "%+v was not asked for", d)
		}
		for key, content := range store.contents {
			require.Equal(t, store.held[key].Digest, wire.Digest(sha256.Sum256(content)))
		}
	})
}

func noteDeletes(told map[Delete]bool, frame *agentv1.SessionResponse) {
	for _, change := range frame.GetDelta().GetChanges() {
		switch change.GetDelete().GetReason() {
		case agentv1.DeleteReason_DELETE_REASON_REQUESTED, agentv1.DeleteReason_DELETE_REASON_ORPHAN:
			orphan := change.GetDelete().GetReason() == agentv1.DeleteReason_DELETE_REASON_ORPHAN
			told[Delete{Key: wire.KeyOf(change.GetKey()), Revision: wire.Revision{UID: change.GetRevision().GetUid()}, Orphan: orphan}] = true
		default:
		}
	}
}

// requireSendable takes what the agent has to say.
func requireSendable(t *testing.T, steps *Steps) {
	t.Helper()
	for range 20 {
		message, _ := steps.Next()
		if message == nil {
			return
		}
		raw, err := proto.Marshal(message) // fails where a text is not UTF-8
		require.NoError(t, err)
		require.LessOrEqual(t, len(raw), wire.MaxFrame)
	}
}

func framesOf(chosen bool, data []byte) (frames [][]byte) {
	if !chosen {
		for len(data) >= 2 {
			n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
			frames = append(frames, data[2:2+n])
			data = data[2+n:]
		}
		return frames
	}
	random := hostile.NewRandom(data, "held", "uid-held", "a", "uid-a", "batch")
	for len(frames) < 20 && !random.Done() {
		frames = append(frames, random.Message((&agentv1.SessionResponse{}).ProtoReflect().Descriptor()))
	}
	return frames
}

func oneInput(frames ...[]byte) (data []byte) {
	for _, frame := range frames {
		data = append(binary.BigEndian.AppendUint16(data, uint16(len(frame))), frame...)
	}
	return data
}

func response(t testing.TB, m *agentv1.SessionResponse) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	require.NoError(t, err)
	return raw
}

func deltaOf(changes ...*agentv1.ObjectChange) *agentv1.SessionResponse {
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Delta{Delta: &agentv1.Delta{Changes: changes}}}
}

// FuzzParts takes an object apart as the hub does, lets a bad network have the
// parts, and gives what is left to an agent. It has the exact bytes in the end or
// it refused them with a reason; it never holds more than one object may have;
// and the parts once more, untouched, are taken, unless it was told too often.
func FuzzParts(f *testing.F) {
	c, err := codec.New(wire.MaxObject)
	require.NoError(f, err)
	f.Add([]byte("some content, in parts "), uint16(40), uint16(100), false, []byte{})
	f.Add([]byte("some content, in parts "), uint16(900), uint16(50), true, []byte("\x00\x01\x02"))
	f.Add([]byte("0123456789"), uint16(7000), uint16(9000), false, []byte("\x01\x00\x00\x02\x03\x01"))
	for op := range byte(harms) {
		f.Add([]byte("abcdefgh"), uint16(20), uint16(30), false, []byte{op, 1, 2, op, 0, 3})
	}
	f.Fuzz(func(t *testing.T, seed []byte, times, size uint16, pack bool, harm []byte) {
		const limit = 32 << 10
		content := bytes.Repeat(seed, int(times)/max(1, len(seed))+1)
		encoded, encoding := content, agentv1.Encoding_ENCODING_IDENTITY
		if pack {
			encoded, encoding = c.Compress(content), agentv1.Encoding_ENCODING_ZSTD
		}
		parts := func() []*agentv1.ObjectChange {
			return inParts("a", content, encoded, encoding, max(int(size), len(encoded)/200+1))
		}
		good := fits(limit, content, encoded)

		store := newMemoryStore()
		in := newIntake(&newFuzzedLink(t, c, store).cfg, discard(), limit, func(wire.Key, string) {})
		sent, harmed := harmParts(parts(), harm)
		acks := feed(t, in, sent)
		require.LessOrEqual(t, in.held(), limit)
		if stored, ok := store.contents[work1("a")]; ok {
			require.Equal(t, string(content), string(stored))
			require.True(t, good, "more than an object may have")
		}
		if !harmed {
			require.Len(t, acks, 1, "one answer for all parts")
			require.Equal(t, good, acks[0].GetCode() == agentv1.AckCode_ACK_CODE_STORED)
		}
		again := feed(t, in, parts())
		require.Equal(t, good, again[len(again)-1].GetCode() == agentv1.AckCode_ACK_CODE_STORED, "damage does not last")
	})
}

func fits(limit int, content, encoded []byte) bool {
	return len(content) <= limit && len(encoded) <= limit
}

// held is how many bytes of an unfinished object are kept.
func (in *intake) held() int { return reflect.ValueOf(&in.parts).Elem().FieldByName("buf").Len() }

// feed gives each change to the intake in a frame of its own.
func feed(t *testing.T, in *intake, changes []*agentv1.ObjectChange) (acks []*agentv1.ObjectAck) {
	t.Helper()
	for _, change := range changes {
		answers, err := in.delta(t.Context(), &agentv1.Delta{Changes: []*agentv1.ObjectChange{change}})
		require.NoError(t, err)
		for _, ack := range answers {
			if wire.KeyOf(ack.GetKey()) == work1("a") {
				requireAnswer(t, ack)
				acks = append(acks, ack)
			}
		}
	}
	return acks
}

// requireAnswer: a refusal says why, in words that can be sent.
func requireAnswer(t *testing.T, ack *agentv1.ObjectAck) {
	t.Helper()
	switch ack.GetCode() {
	case agentv1.AckCode_ACK_CODE_STORED:
		require.Nil(t, ack.GetError())
		return
	case agentv1.AckCode_ACK_CODE_RETRY:
		require.Equal(t, reason.DigestMismatch, ack.GetError().GetReason())
	case agentv1.AckCode_ACK_CODE_REJECTED:
		require.Contains(t, []string{reason.DigestMismatch, reason.ObjectTooLarge, reason.Undecodable}, ack.GetError().GetReason())
	default:
		require.Fail(t, "an answer that cannot be", "%v", ack)
	}
	require.NotEmpty(t, ack.GetError().GetMessage())
	require.LessOrEqual(t, len(ack.GetError().GetMessage()), wire.MaxErrorMessage)
	require.True(t, utf8.ValidString(ack.GetError().GetMessage()))
}

// harms is how many kinds of harm there are.
const harms = 9

// harmParts does up to 20 harmful things to parts, each said in three bytes:
// what, to which, and how.
func harmParts(parts []*agentv1.ObjectChange, harm []byte) (left []*agentv1.ObjectChange, harmed bool) {
	for n := 0; len(harm) >= 3 && len(parts) > 0 && n < 20; harm, n = harm[3:], n+1 {
		i, how := int(harm[1])%len(parts), int(harm[2])
		change := proto.CloneOf(parts[i])
		part := change.GetUpsert()
		if part == nil {
			continue
		}
		harmed = true
		switch j := how % len(parts); harm[0] % harms {
		case 0: // lost
			parts = append(parts[:i:i], parts[i+1:]...)
			continue
		case 1: // twice
			parts = append(parts[:i+1:i+1], parts[i:]...)
			continue
		case 2: // in another order
			parts[i], parts[j] = parts[j], parts[i]
			continue
		case 3: // the connection ends
			parts = parts[:i]
			continue
		case 4: // something else comes between
			parts = append(append(parts[:i:i], upsert("b", 1, []byte("b"))), parts[i:]...)
			continue
		case 5:
			part.ObjectJson = part.GetObjectJson()[:len(part.GetObjectJson())*how/256]
		case 6:
			if damaged := bytes.Clone(part.GetObjectJson()); len(damaged) > 0 {
				damaged[how%len(damaged)] ^= 0x40
				part.ObjectJson = damaged
			}
		case 7:
			part.Part, part.LastPart = part.GetPart()+uint32(how), how%2 == 0
		case 8:
			part.UncompressedSize, change.Revision.Size = uint64(how)<<(how%40), uint64(how)
		}
		parts[i] = change
	}
	return parts, harmed
}
