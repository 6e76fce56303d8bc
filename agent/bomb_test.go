// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/env"
)

// bomb is 10 GiB of zeros by zstd (RFC 8878): one frame that does not say its
// size, with a window of 1 MiB or (0x58) 2 MiB, and in it blocks of 128 KiB that
// each are one byte repeated.
func bomb(window byte) []byte {
	const block, blocks = 128 << 10, 10 << 30 / (128 << 10)
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, window}
	for i := range blocks {
		header := block<<3 | 1<<1 // repeated
		if i == blocks-1 {
			header |= 1 // the last one
		}
		out = append(out, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return out
}

// T24: a hub that sends a bomb, over TLS and in parts, is told REJECTED by the
// whole agent, which takes less than 4 MiB for unpacking it, and goes on.
func TestT24_bomb_of_a_hostile_hub(t *testing.T) { // alone: it counts bytes
	h := newFakeHub(t)
	s := newScene(t, h)
	s.cfg.DataDir = t.TempDir()
	agent := start(t, s.cfg)
	p := h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	good := s.namespace + "-good"
	p.delta(upsert(good, "u", 1, s.work(good, "u", 1, "x", "before")))
	s.untilData(t, "before", "x")

	limit := uint64(4 << 20)
	if env.Race {
		limit *= 2 // under the race detector pools forget, now and then, what they are given
	}
	broken := bomb(0x50)
	broken[0] = 0 // as many bytes that nobody unpacks
	ack, carried := p.explode(1, broken)
	require.Equal(t, agentv1.AckCode_ACK_CODE_RETRY, ack.GetCode(), "%v", ack)
	for i, window := range []byte{0x50, 0x58} {
		ack, allocated := p.explode(int64(i+2), bomb(window))
		require.Equal(t, agentv1.AckCode_ACK_CODE_REJECTED, ack.GetCode(), "%v", ack)
		require.Equal(t, reason.Undecodable, ack.GetError().GetReason())
		t.Logf("both ends allocated %d KiB, and %d KiB for what is no bomb", allocated>>10, carried>>10)
		require.Less(t, allocated, carried+limit, "bytes allocated, freed or not")
	}
	p.delta(upsert(good, "u", 2, s.work(good, "u", 2, "y", "before")))
	s.untilData(t, "before", "y")
	agent.stop(t)
}

// explode sends packed bytes as an object, in parts; it returns the answer, and
// how many bytes were allocated for it. It does it three times, of which the
// least counts: other parts of the agent allocate, too.
func (p *peer) explode(generation int64, packed []byte) (*agentv1.ObjectAck, uint64) {
	p.t.Helper()
	require.Greater(p.t, len(packed), wire.MaxFrame, "it takes several parts")
	const part, size = 200 << 10, 1 << 20
	least, ack := uint64(math.MaxUint64), (*agentv1.ObjectAck)(nil)
	for range 3 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := 0; i*part < len(packed); i++ {
			change := upsert("bomb", "u", generation, "x")
			change.Revision.Size = size
			change.Action = &agentv1.ObjectChange_Upsert{Upsert: &agentv1.Upsert{
				ObjectJson: packed[i*part : min((i+1)*part, len(packed))], Encoding: agentv1.Encoding_ENCODING_ZSTD, UncompressedSize: size,
				Part: uint32(i), LastPart: (i+1)*part >= len(packed),
			}}
			p.delta(change)
		}
		ack = p.ack("bomb")
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return ack, least
}
