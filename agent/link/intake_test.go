// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

func noise(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(out)
	return out
}

// inParts is one revision as a hub sends it in several frames.
func inParts(name string, content, encoded []byte, encoding agentv1.Encoding, size int) []*agentv1.ObjectChange {
	pieces := wire.Cut(encoded, size)
	changes := make([]*agentv1.ObjectChange, 0, len(pieces))
	for i, piece := range pieces {
		change := upsert(name, 1, content)
		change.Action = &agentv1.ObjectChange_Upsert{Upsert: &agentv1.Upsert{
			ObjectJson: piece, Encoding: encoding, UncompressedSize: uint64(len(content)), Part: uint32(i), LastPart: i == len(pieces)-1,
		}}
		changes = append(changes, change)
	}
	return changes
}

func acked(t *testing.T, p *peer, seq uint64) []*agentv1.ObjectAck {
	t.Helper()
	var objects []*agentv1.ObjectAck
	for {
		ack := p.ack()
		objects = append(objects, ack.GetObjects()...)
		if ack.GetProcessedSeq() >= seq {
			return objects
		}
	}
}

func TestT21_parts(t *testing.T) {
	inBubble(t, func(b *bench) {
		c, err := codec.New(wire.MaxObject)
		require.NoError(t, err)
		_, p := b.connected()
		content := noise(wire.MaxObject)
		for _, change := range inParts("big", content, content, agentv1.Encoding_ENCODING_IDENTITY, wire.MaxPart) {
			p.delta(change)
			require.LessOrEqual(t, proto.Size(change), wire.MaxFrame)
			p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
		}
		objects := acked(t, p, p.last()-1)
		require.Len(t, objects, 1, "only the whole object is answered; parts return credit")
		require.Equal(t, agentv1.AckCode_ACK_CODE_STORED, objects[0].GetCode())
		require.Equal(t, string(content), b.store.content("big"))

		text := bytes.Repeat([]byte("compressible "), 50_000)
		for _, change := range inParts("text", text, c.Compress(text), agentv1.Encoding_ENCODING_ZSTD, 20) {
			p.delta(change)
		}
		objects = acked(t, p, p.last())
		require.Len(t, objects, 1)
		require.Equal(t, string(text), b.store.content("text"))
	})
}

// counted is fairlead_agent_objects_total, by code.
func counted(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "fairlead_agent_objects_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			counts[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
		}
	}
	return counts
}

func TestT22_damaged_content_is_asked_for_again(t *testing.T) {
	content := bytes.Repeat([]byte("some content "), 1000)
	tests := map[string]struct {
		reason string
		damage func(changes []*agentv1.ObjectChange) []*agentv1.ObjectChange
	}{
		"a byte": {"one flipped byte", func(c []*agentv1.ObjectChange) []*agentv1.ObjectChange {
			c[1].GetUpsert().ObjectJson = append([]byte("X"), c[1].GetUpsert().GetObjectJson()[1:]...)
			return c
		}},
		"truncated": {"the last part is shorter", func(c []*agentv1.ObjectChange) []*agentv1.ObjectChange {
			last := c[len(c)-1].GetUpsert()
			last.ObjectJson = last.GetObjectJson()[1:]
			return c
		}},
		"wrong size": {"another size than the content has", func(c []*agentv1.ObjectChange) []*agentv1.ObjectChange {
			for _, change := range c {
				change.Revision.Size++
			}
			return c
		}},
		"out of order": {"two parts swapped", func(c []*agentv1.ObjectChange) []*agentv1.ObjectChange {
			c[1], c[2] = c[2], c[1]
			return c
		}},
		"lost": {"a part is missing", func(c []*agentv1.ObjectChange) []*agentv1.ObjectChange { return append(c[:1:1], c[2:]...) }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				registry := prometheus.NewPedanticRegistry()
				b.cfg.Metrics = NewMetrics(registry)
				_, p := b.connected()
				for i := range maxAsks + 1 {
					for _, change := range tc.damage(inParts("a", content, content, agentv1.Encoding_ENCODING_IDENTITY, 4000)) {
						p.delta(change)
					}
					objects := acked(t, p, p.last())
					require.Len(t, objects, 1, "%s: answered once for all parts", tc.reason)
					want := agentv1.AckCode_ACK_CODE_RETRY
					if i == maxAsks {
						want = agentv1.AckCode_ACK_CODE_REJECTED
					}
					require.Equal(t, want, objects[0].GetCode(), tc.reason)
					require.Equal(t, reason.DigestMismatch, objects[0].GetError().GetReason())
				}
				require.Empty(t, b.store.contents, "never stored")
				require.Equal(t, map[string]float64{"RETRY": maxAsks, "REJECTED": 1}, counted(t, registry))
				for _, change := range inParts("a", content, content, agentv1.Encoding_ENCODING_IDENTITY, 4000) {
					p.delta(change)
				}
				require.Equal(t, agentv1.AckCode_ACK_CODE_STORED, acked(t, p, p.last())[0].GetCode(), "the next good one is taken")
			})
		})
	}
}

// A hub whose cache is poisoned has other content under a digest, whole and well
// packed: of another object, of another revision, or none.
func TestT67_content_of_another_digest(t *testing.T) {
	c, err := codec.New(wire.MaxObject)
	require.NoError(t, err)
	announced := []byte(`{"metadata":{"name":"a"}}`)
	for name, poison := range map[string]string{
		"another object": `{"metadata":{"name":"b"}}`, "one more field": `{"metadata":{"name":"a"},"spec":{}}`, "nothing": "",
	} {
		for _, encoding := range []agentv1.Encoding{agentv1.Encoding_ENCODING_IDENTITY, agentv1.Encoding_ENCODING_ZSTD} {
			t.Run(name+" "+encoding.String(), func(t *testing.T) {
				sent := []byte(poison)
				if encoding == agentv1.Encoding_ENCODING_ZSTD {
					sent = c.Compress(sent)
				}
				inBubble(t, func(b *bench) {
					_, p := b.connected()
					change := upsert("a", 1, announced)
					change.Action = &agentv1.ObjectChange_Upsert{Upsert: &agentv1.Upsert{
						ObjectJson: sent, Encoding: encoding, UncompressedSize: uint64(len(poison)), LastPart: true,
					}}
					for range maxAsks + 1 {
						p.delta(change)
						got := acked(t, p, p.last())
						require.Len(t, got, 1)
						require.Contains(t, []agentv1.AckCode{agentv1.AckCode_ACK_CODE_RETRY, agentv1.AckCode_ACK_CODE_REJECTED}, got[0].GetCode())
						require.Equal(t, reason.DigestMismatch, got[0].GetError().GetReason())
					}
					require.Empty(t, b.store.contents)
				})
			})
		}
	}
}

func TestT24_bomb(t *testing.T) {
	c, err := codec.New(wire.MaxObject)
	require.NoError(t, err)
	zeros := c.Compress(make([]byte, 256<<20))
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		change := upsert("bomb", 1, []byte("x"))
		change.GetUpsert().ObjectJson, change.GetUpsert().Encoding = zeros, agentv1.Encoding_ENCODING_ZSTD
		huge := upsert("huge", 1, []byte("x"))
		huge.GetUpsert().UncompressedSize = 10 << 30
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		p.delta(change, huge)
		objects := acked(t, p, p.last())
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
		require.Equal(t, agentv1.AckCode_ACK_CODE_REJECTED, objects[0].GetCode())
		require.Equal(t, agentv1.AckCode_ACK_CODE_REJECTED, objects[1].GetCode())
		require.Equal(t, reason.ObjectTooLarge, objects[1].GetError().GetReason())
	})
}

func TestT20_rejected_object_does_not_stop_others(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		b.store.refuse(&Rejected{Reason: reason.Undecodable, Message: "no JSON", FieldPaths: []string{"spec.workload.manifests[3]"}})
		p.delta(upsert("bad", 1, []byte("{")))
		bad := acked(t, p, p.last())[0]
		require.Equal(t, agentv1.AckCode_ACK_CODE_REJECTED, bad.GetCode())
		require.Equal(t, []string{"spec.workload.manifests[3]"}, bad.GetError().GetFieldPaths())
		b.store.refuse(nil)
		p.delta(upsert("good", 1, []byte("{}")))
		require.Equal(t, agentv1.AckCode_ACK_CODE_STORED, acked(t, p, p.last())[0].GetCode())
	})
}

func TestT23_error_texts_are_cut(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		b.store.refuse(errors.New(string(bytes.Repeat([]byte("long \xff"), 20_000))))
		p.delta(upsert("a", 1, []byte("{")))
		require.LessOrEqual(t, len(acked(t, p, p.last())[0].GetError().GetMessage()), wire.MaxErrorMessage)
	})
}

func TestT83_hostile_hub(t *testing.T) {
	delta := func(changes ...*agentv1.ObjectChange) *agentv1.SessionResponse {
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Delta{Delta: &agentv1.Delta{Changes: changes}}}
	}
	unknown := upsert("x", 1, []byte("1"))
	unknown.Key.Kind = 77
	nothing := upsert("x", 1, []byte("1"))
	nothing.Action = nil
	unnamed := upsert("", 1, []byte("1"))
	short := upsert("x", 1, []byte("1"))
	short.Revision.Digest = []byte("short")
	tests := map[string]struct {
		reason string
		send   func(b *bench, p *peer)
		ends   string // the reason that ends the session
		code   agentv1.AckCode
		why    string
	}{
		"delta before welcome": {
			reason: "nothing counts before Welcome", ends: reason.ProtocolError,
			send: func(_ *bench, p *peer) {
				p.send(delta(remove("held", "uid-held", agentv1.DeleteReason_DELETE_REASON_REQUESTED)))
			},
		},
		"sequence gap": {
			reason: "a lost frame is noticed", ends: reason.ProtocolError,
			send: func(_ *bench, p *peer) {
				p.welcome()
				p.skip(1)
				p.send(delta(upsert("a", 1, []byte("1"))))
			},
		},
		"sequence replay": {
			reason: "a repeated frame is noticed", ends: reason.ProtocolError,
			send: func(_ *bench, p *peer) {
				p.welcome()
				p.skip(-1)
				p.send(delta(upsert("a", 1, []byte("1"))))
			},
		},
		"welcome twice": {
			reason: "one Welcome a session", ends: reason.ProtocolError,
			send: func(_ *bench, p *peer) { p.welcome(); p.welcome() },
		},
		"a key twice": {
			reason: "at most one change per key in a frame", ends: reason.ProtocolError,
			send: func(_ *bench, p *peer) {
				p.welcome()
				p.send(delta(upsert("a", 1, []byte("1")), upsert("a", 2, []byte("2"))))
			},
		},
		"beyond the window": {
			reason: "memory is bounded whatever a hub sends", ends: reason.ProtocolError,
			send: func(b *bench, p *peer) {
				b.store.mu.Lock()
				b.store.slow = time.Hour
				b.store.mu.Unlock()
				p.welcome()
				for range 60 {
					if p.trySend(delta(upsert("a", 1, noise(200<<10)))) != nil {
						return
					}
				}
			},
		},
		"unknown kind": {
			reason: "an object of a later protocol", code: agentv1.AckCode_ACK_CODE_REJECTED, why: reason.Unsupported,
			send: func(_ *bench, p *peer) { p.welcome(); p.send(delta(unknown)) },
		},
		"unknown action": {
			reason: "neither upsert nor delete", code: agentv1.AckCode_ACK_CODE_RETRY, why: reason.Unsupported,
			send: func(_ *bench, p *peer) { p.welcome(); p.send(delta(nothing)) },
		},
		"no name": {
			reason: "an object without a name", code: agentv1.AckCode_ACK_CODE_REJECTED, why: reason.InvalidArgument,
			send: func(_ *bench, p *peer) { p.welcome(); p.send(delta(unnamed)) },
		},
		"digest that is none": {
			reason: "a digest of the wrong length", code: agentv1.AckCode_ACK_CODE_REJECTED, why: reason.InvalidArgument,
			send: func(_ *bench, p *peer) { p.welcome(); p.send(delta(short)) },
		},
		"delete of another UID": {
			reason: "the held object is another one", code: agentv1.AckCode_ACK_CODE_REJECTED, why: reason.UIDMismatch,
			send: func(_ *bench, p *peer) {
				p.welcome()
				p.send(delta(remove("held", "uid-other", agentv1.DeleteReason_DELETE_REASON_ORPHAN)))
			},
		},
		"delete for no reason": {
			reason: "only the protocol's two reasons delete", code: agentv1.AckCode_ACK_CODE_RETRY, why: reason.Unsupported,
			send: func(_ *bench, p *peer) {
				p.welcome()
				p.send(delta(remove("held", "uid-held", agentv1.DeleteReason_DELETE_REASON_UNSPECIFIED)))
			},
		},
		"empty change": {
			reason: "nil everywhere", code: agentv1.AckCode_ACK_CODE_REJECTED, why: reason.Unsupported,
			send: func(_ *bench, p *peer) { p.welcome(); p.send(delta(&agentv1.ObjectChange{})) },
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.store.held[work1("held")] = revision("uid-held", 1, []byte("held"))
				h := b.hub("hub-0:443")
				b.start()
				p := h.accept()
				tc.send(b, p)
				if tc.ends != "" {
					p.gone()
					b.store.mu.Lock()
					b.store.slow = 0
					b.store.mu.Unlock()
					h.accept() // it tries again
					var why *Ended
					require.ErrorAs(t, b.link.State().LastError, &why)
					require.Equal(t, tc.ends, why.Reason, tc.reason)
				} else {
					object := acked(t, p, p.last())[0]
					require.Equal(t, tc.code, object.GetCode(), tc.reason)
					require.Equal(t, tc.why, object.GetError().GetReason(), tc.reason)
				}
				synctest.Wait()
				require.Empty(t, b.store.deletes, "nothing is removed outside the rules")
				require.Contains(t, b.store.held, work1("held"))
			})
		})
	}
}

func TestDeletes(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		p.delta(remove("a", "uid-a", agentv1.DeleteReason_DELETE_REASON_REQUESTED))
		require.Equal(t, agentv1.AckCode_ACK_CODE_STORED, acked(t, p, p.last())[0].GetCode())
		b.store.verdict = DeleteHeld
		p.delta(remove("b", "uid-b", agentv1.DeleteReason_DELETE_REASON_ORPHAN))
		require.Equal(t, agentv1.AckCode_ACK_CODE_HELD, acked(t, p, p.last())[0].GetCode())
		require.False(t, b.store.deletes[0].Orphan)
		require.Equal(t, Delete{Key: work1("b"), Revision: wire.Revision{UID: "uid-b", Generation: 9}, Orphan: true, Batch: "batch"}, b.store.deletes[1])
	})
}

func TestSlowStoreDoesNotLookLikeDeath(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.store.slow = 25 * time.Second
		b.cfg.StoreParallel = 1
		_, p := b.connected()
		stop := p.heartbeats()
		for i := range 10 {
			change := upsert("w"+time.Duration(i).String(), 1, []byte("x"))
			p.delta(change)
		}
		last := uint64(11) // heartbeats come later
		objects := 0
		for {
			ack := p.ack()
			objects += len(ack.GetObjects())
			if ack.GetProcessedSeq() >= last {
				break
			}
		}
		stop()
		require.Equal(t, 10, objects)
		require.True(t, b.link.State().Connected)
	})
}
