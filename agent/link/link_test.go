// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSessionStoresAndAcknowledges(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		require.Equal(t, "instance", p.hello.GetInstanceId())
		require.EqualValues(t, 4<<20, p.hello.GetWindow().GetBytes())
		require.Equal(t, "store-1", p.hello.GetResume().GetStoreEpoch())
		require.Equal(t, make([]byte, 32), p.hello.GetResume().GetDesiredRoot())

		p.delta(upsert("a", 1, []byte("one")), upsert("b", 1, []byte("two")))
		ack := p.ack()
		require.EqualValues(t, 2, ack.GetProcessedSeq())
		require.Len(t, ack.GetObjects(), 2)
		for _, object := range ack.GetObjects() {
			require.Equal(t, agentv1.AckCode_ACK_CODE_STORED, object.GetCode())
			require.NotEmpty(t, object.GetRevision().GetDigest())
		}
		require.Equal(t, "one", b.store.content("a"))
		require.Equal(t, time.Hour, b.store.welcomes[0].OrphanGrace)
		require.True(t, b.link.State().Connected)
	})
}

func TestReconnectInSyncSendsItsRoot(t *testing.T) {
	inBubble(t, func(b *bench) {
		h, p := b.connected()
		p.delta(upsert("a", 1, []byte("one")))
		p.ack()
		time.Sleep(15 * time.Second)
		p.end <- nil

		p = h.accept()
		want := wire.Summarize(b.store.Snapshot().Entries).Root()
		require.Equal(t, want[:], p.hello.GetResume().GetDesiredRoot())
		require.EqualValues(t, 1, p.hello.GetResume().GetDesiredCount())
		p.welcome(func(w *agentv1.Welcome) { w.SyncMode = agentv1.SyncMode_SYNC_MODE_IN_SYNC })
		synctest.Wait()
		require.Len(t, b.store.syncs, 1, "everything is confirmed")
	})
}

func TestSyncComplete(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		b.store.refuse(errors.New("apiserver is away"))
		p.delta(upsert("a", 1, []byte("one")))
		ack := p.ack()
		require.Equal(t, agentv1.AckCode_ACK_CODE_RETRY, ack.GetObjects()[0].GetCode())
		require.Contains(t, ack.GetObjects()[0].GetError().GetMessage(), "apiserver is away")
		p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Delta{Delta: &agentv1.Delta{
			SyncComplete: true, HighWater: wire.HighWater{ResourceVersion: 120}.Proto(),
		}}})
		p.ack()
		require.Equal(t, [][]wire.Key{{work1("a")}}, b.store.syncs, "what could not be stored is named")
		require.Contains(t, b.store.marks, uint64(120))
	})
}

func TestDrainOpensTheNextSessionFirst(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.cfg.Endpoints = []string{"hub-0:443", "hub-1:443"}
		other := b.hub("hub-1:443")
		_, first := b.connected()
		stop := first.heartbeats()
		first.directive(&agentv1.Directive{Directive: &agentv1.Directive_Drain{Drain: &agentv1.Drain{
			CloseAt: timestamppb.New(time.Now().Add(20 * time.Second)), Reason: "stopping",
			Reconnect: &agentv1.ReconnectPolicy{Spread: durationpb.New(10 * time.Second)},
		}}})
		second := other.accept()
		require.NoError(t, first.stream.Context().Err(), "the old one is still there")
		second.welcome(func(w *agentv1.Welcome) { w.SessionId, w.SessionEpoch = "s2", 2 })
		first.gone()
		stop()
		synctest.Wait()
		require.Equal(t, "s2", b.link.State().SessionID)
		require.True(t, b.link.State().Connected)
		second.delta(upsert("a", 1, []byte("one")))
		require.Equal(t, agentv1.AckCode_ACK_CODE_STORED, second.ack().GetObjects()[0].GetCode())
	})
}

func TestDrainWithoutAnotherHubGoesOn(t *testing.T) {
	inBubble(t, func(b *bench) {
		h, p := b.connected()
		stop := p.heartbeats()
		defer stop()
		h.setRefuse(status.Error(codes.Unavailable, "starting"))
		p.directive(&agentv1.Directive{Directive: &agentv1.Directive_Drain{Drain: &agentv1.Drain{}}})
		time.Sleep(3 * time.Minute)
		require.NoError(t, p.stream.Context().Err())
		require.True(t, b.link.State().Connected)
		h.setRefuse(nil)
		next := h.accept()
		next.welcome()
		p.gone()
	})
}

func TestT40_renewal_on_the_live_connection(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.creds.renew, b.creds.make = time.Now().Add(10*time.Minute), b.certificate
		h, p := b.connected()
		stop := p.heartbeats()
		time.Sleep(9 * time.Minute)
		require.Empty(t, h.renewals)
		<-h.renewals
		next := h.accept()
		require.NoError(t, p.stream.Context().Err(), "make before break")
		next.welcome()
		p.gone()
		stop()

		b.creds.make = b.certificate
		next.directive(&agentv1.Directive{Directive: &agentv1.Directive_RenewNow{RenewNow: &agentv1.RenewNow{}}})
		<-h.renewals
		h.accept().welcome()
		next.gone()
	})
}

func TestTrustBundle(t *testing.T) {
	inBubble(t, func(b *bench) {
		h, p := b.connected(func(w *agentv1.Welcome) { w.TrustBundle = &agentv1.TrustBundle{Version: 3} })
		synctest.Wait()
		require.EqualValues(t, 3, b.creds.TrustVersion())
		p.directive(&agentv1.Directive{Directive: &agentv1.Directive_TrustBundle{TrustBundle: &agentv1.TrustBundle{Version: 4}}})
		next := h.accept()
		require.EqualValues(t, 4, next.hello.GetTrustBundleVersion(), "the next Hello confirms it")
		next.welcome()
	})
}

func TestT31_silent_hub_is_left(t *testing.T) {
	inBubble(t, func(b *bench) {
		h, p := b.connected()
		began := time.Now()
		p.gone()
		require.Equal(t, time.Minute, time.Since(began), "three heartbeats missed")
		h.accept()
		var why *Ended
		require.ErrorAs(t, b.link.State().LastError, &why)
		require.Equal(t, reason.LivenessLost, why.Reason)
	})
}

func TestHeartbeatsAndAntiEntropy(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		stop := p.heartbeats()
		defer stop()
		began := time.Now()
		beats := 0
		for {
			beat := next(p, (*agentv1.SessionRequest).GetHeartbeat, func(h *agentv1.Heartbeat) bool { return h != nil })
			beats++
			require.EqualValues(t, beats, beat.GetCount())
			if beat.GetResume() != nil {
				break
			}
		}
		require.Equal(t, 10*time.Minute, time.Since(began))
		require.Equal(t, 30, beats)
	})
}

func TestGoodbyeAtTheEnd(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		synctest.Wait()
		began := time.Now()
		b.cancel()
		bye := next(p, (*agentv1.SessionRequest).GetGoodbye, func(g *agentv1.Goodbye) bool { return g != nil })
		require.Equal(t, reasonShutdown, bye.GetReason())
		p.end <- nil
		require.NoError(t, <-b.done)
		require.Zero(t, time.Since(began), "a hub that answers costs no time")
		b.cancel = nil
	})
}

func TestEndIsQuickWhenTheHubDoesNotAnswer(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.connected()
		synctest.Wait()
		began := time.Now()
		b.cancel()
		require.NoError(t, <-b.done)
		require.LessOrEqual(t, time.Since(began), goodbyeTimeout)
		b.cancel = nil
	})
}

func TestDirectives(t *testing.T) {
	inBubble(t, func(b *bench) {
		reports := 0
		b.cfg.ClusterReport = func() ClusterReport {
			reports++
			return ClusterReport{
				KubernetesVersion: "v1.37.2", Claims: map[string]string{"id.k8s.io": "x"},
				Held: []HeldBatch{{ID: "b1", Reason: "COUNT", Since: time.Now(), Entries: []wire.Entry{{Key: work1("a"), Revision: revision("u", 1, nil)}}}},
			}
		}
		_, p := b.connected()
		report := next(p, (*agentv1.SessionRequest).GetClusterReport, func(r *agentv1.ClusterReport) bool { return r != nil })
		require.Equal(t, agentv1.HeldReason_HELD_REASON_COUNT, report.GetHeld()[0].GetReason())
		require.Equal(t, "a", report.GetHeld()[0].GetEntries()[0].GetKey().GetName())
		p.directive(&agentv1.Directive{Directive: &agentv1.Directive_ReleaseHold{ReleaseHold: &agentv1.ReleaseHold{BatchId: "b1"}}})
		next(p, (*agentv1.SessionRequest).GetClusterReport, func(r *agentv1.ClusterReport) bool { return r != nil })
		require.Equal(t, []string{"b1"}, b.store.released)
		require.Equal(t, 2, reports)

		p.directive(&agentv1.Directive{})
		p.send(&agentv1.SessionResponse{})
		b.link.Event(work1("a"), "Applied", "note", time.Now())
		events := next(p, (*agentv1.SessionRequest).GetEvents, func(e *agentv1.EventBatch) bool { return e != nil })
		require.Equal(t, "Applied", events.GetEvents()[0].GetReason(), "unknown messages are ignored")
	})
}

func TestInventory(t *testing.T) {
	inBubble(t, func(b *bench) {
		for i := range 5000 {
			name := "work-with-a-name-of-some-length-" + time.Duration(i).String()
			b.store.held[work1(name)] = revision("0f1e2d3c-aaaa-bbbb-cccc-1234567890ab", 1, []byte(name))
		}
		_, p := b.connected()
		ask := func(buckets ...uint32) []*agentv1.Bucket {
			p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_InventoryRequest{InventoryRequest: &agentv1.InventoryRequest{Buckets: buckets}}})
			var all []*agentv1.Bucket
			for {
				reply := next(p, (*agentv1.SessionRequest).GetInventory, func(r *agentv1.InventoryReply) bool { return r != nil })
				all = append(all, reply.GetBuckets()...)
				if reply.GetLast() {
					return all
				}
			}
		}
		digests := ask()
		require.Len(t, digests, wire.Buckets)
		want := wire.Summarize(b.store.Snapshot().Entries)
		require.Equal(t, want[7][:], digests[7].GetDigest())

		every := make([]uint32, 0, wire.Buckets+1)
		for i := range uint32(wire.Buckets) {
			every = append(every, i)
		}
		var entries []wire.Entry
		for _, bucket := range ask(append(every, 999)...) {
			for _, e := range bucket.GetEntries() {
				entry, ok := wire.EntryOf(e)
				require.True(t, ok)
				require.EqualValues(t, bucket.GetIndex(), entry.Key.Bucket())
				entries = append(entries, entry)
			}
		}
		require.Equal(t, want.Root(), wire.Summarize(entries).Root(), "T21: an inventory of any size comes in frames")
	})
}

func TestAttemptsRotateAndBackOff(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.cfg.Endpoints = []string{"nobody-0:443", "nobody-1:443", "hub-2:443"}
		h := b.hub("hub-2:443")
		began := time.Now()
		b.start()
		h.accept().welcome()
		require.Zero(t, time.Since(began), "every endpoint is tried before the first wait")
	})
}

func TestT26_waits(t *testing.T) {
	refused := func(code codes.Code, why string, retry time.Duration) error {
		s, err := status.New(code, "no").WithDetails(&errdetails.ErrorInfo{Reason: why}, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
		require.NoError(t, err)
		return s.Err()
	}
	tests := map[string]struct {
		reason string
		err    error
		want   []time.Duration // with a random number of 0.5
	}{
		"unavailable": {
			reason: "full jitter that doubles, up to a minute",
			err:    status.Error(codes.Unavailable, "starting"),
			want: []time.Duration{
				500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second,
				30 * time.Second, 30 * time.Second,
			},
		},
		"overloaded": {
			reason: "RetryInfo is a floor, with jitter on top of it",
			err:    refused(codes.ResourceExhausted, reason.HubOverloaded, 30*time.Second),
			want:   []time.Duration{30*time.Second + 500*time.Millisecond, 31 * time.Second},
		},
		"a week": {
			reason: "a hub cannot send an agent away for longer than 5 min by RetryInfo",
			err:    refused(codes.ResourceExhausted, reason.HubOverloaded, 7*24*time.Hour),
			want:   []time.Duration{5*time.Minute + 500*time.Millisecond},
		},
		"denied": {
			reason: "5 min, give or take half",
			err:    refused(codes.PermissionDenied, reason.NotAccepted, 0),
			want:   []time.Duration{5 * time.Minute, 5 * time.Minute},
		},
		"too old": {
			reason: "10 min",
			err:    refused(codes.FailedPrecondition, reason.ProtocolTooOld, 0),
			want:   []time.Duration{10 * time.Minute},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBackoff(func() float64 { return 0.5 })
			for i, want := range tc.want {
				require.Equal(t, want, b.next(endedBy(tc.err)), "%s: attempt %d", tc.reason, i)
			}
		})
	}
}

func TestT26_first_retry_is_within_the_spread(t *testing.T) {
	b := newBackoff(func() float64 { return 0.25 })
	b.policy(&agentv1.ReconnectPolicy{Spread: durationpb.New(40 * time.Second), Base: durationpb.New(2 * time.Second), Max: durationpb.New(time.Hour)})
	lost := endedBy(status.Error(codes.Unavailable, "gone"))
	b.after(time.Minute)
	require.Equal(t, 10*time.Second, b.next(lost), "uniform in what the hub asked for")
	require.Equal(t, 500*time.Millisecond, b.next(lost), "then jitter")
	b.after(time.Second)
	require.Equal(t, time.Second, b.next(lost), "a session that ended at once does not start anew")
	for range 30 {
		require.LessOrEqual(t, b.next(lost), capMax, "a hub's wishes have bounds")
	}
}

func TestRefusalIsClear(t *testing.T) {
	inBubble(t, func(b *bench) {
		h := b.hub("hub-0:443")
		s, err := status.New(codes.AlreadyExists, "cluster c1 is connected from elsewhere").WithDetails(&errdetails.ErrorInfo{Reason: reason.DuplicateCluster})
		require.NoError(t, err)
		h.setRefuse(s.Err())
		b.start()
		synctest.Wait()
		var why *Ended
		require.ErrorAs(t, b.link.State().LastError, &why)
		require.Equal(t, reason.DuplicateCluster, why.Reason)
		require.ErrorContains(t, why, "give this one its own name")
	})
}

func TestT64_another_hub_is_refused(t *testing.T) {
	inBubble(t, func(b *bench) {
		stranger := newBench(t)
		h := stranger.hub("hub-0:443")
		b.hubs = stranger.hubs
		b.start()
		h.none(5 * time.Second)
		var why *Ended
		require.ErrorAs(t, b.link.State().LastError, &why)
		require.Equal(t, reason.HubCAMismatch, why.Reason)
	})
}

func TestOtherHubID(t *testing.T) {
	inBubble(t, func(b *bench) {
		h := b.hub("hub-0:443")
		b.start()
		p := h.accept()
		p.welcome(func(w *agentv1.Welcome) { w.HubId = "hub-9" })
		p.gone()
		synctest.Wait()
		require.ErrorIs(t, b.link.State().LastError, ErrOtherHub)
		require.Empty(t, b.store.welcomes, "the store never heard of it")
	})
}

func TestExpiredCertificateIsNotDialled(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.creds.err = &Ended{Reason: reason.CertificateExpired, Err: errors.New("expired yesterday")}
		h := b.hub("hub-0:443")
		b.start()
		h.none(time.Minute)
		var why *Ended
		require.ErrorAs(t, b.link.State().LastError, &why)
		require.Equal(t, reason.CertificateExpired, why.Reason)
	})
}

// TestInSync: an agent has all that its hub has from sync_complete to the end of
// the session, and only if all of it could be stored.
func TestInSync(t *testing.T) {
	inBubble(t, func(b *bench) {
		h, p := b.connected()
		synctest.Wait()
		require.False(t, b.link.State().InSync)
		complete := &agentv1.SessionResponse_Delta{Delta: &agentv1.Delta{SyncComplete: true}}
		p.send(&agentv1.SessionResponse{Message: complete})
		synctest.Wait()
		require.True(t, b.link.State().InSync)
		p.end <- nil
		synctest.Wait()
		require.False(t, b.link.State().InSync)

		p = h.accept()
		p.welcome()
		synctest.Wait()
		require.False(t, b.link.State().InSync)
		damaged := upsert("a", 1, []byte("one"))
		damaged.GetUpsert().ObjectJson = []byte("two")
		p.delta(damaged)
		p.ack()
		p.send(&agentv1.SessionResponse{Message: complete})
		synctest.Wait()
		require.False(t, b.link.State().InSync, "the hub has what this agent has not")
		p.delta(upsert("a", 1, []byte("one")))
		p.ack()
		p.send(&agentv1.SessionResponse{Message: complete})
		synctest.Wait()
		require.True(t, b.link.State().InSync)
	})
}

func TestSupersededStaysAway(t *testing.T) {
	inBubble(t, func(b *bench) {
		h, p := b.connected()
		p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Goodbye{Goodbye: &agentv1.Goodbye{Reason: reason.Superseded}}})
		p.gone()
		h.none(25 * time.Second)
		h.none(30 * time.Second)
		p = h.accept()
		p.welcome()
		synctest.Wait()
		require.True(t, b.link.State().Superseded, "what it holds may be older than what the other one applied")
		p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Delta{Delta: &agentv1.Delta{SyncComplete: true}}})
		synctest.Wait()
		require.False(t, b.link.State().Superseded)
	})
}

// TestT61_superseded_by_itself: an agent that was opening its next session knows
// why the hub ended the present one, and neither waits for another instance to go
// nor leaves the spoke alone.
func TestT61_superseded_by_itself(t *testing.T) {
	for _, why := range []string{reason.Superseded, reason.SerialMismatch} {
		inBubble(t, func(b *bench) {
			h, p := b.connected()
			p.directive(&agentv1.Directive{Directive: &agentv1.Directive_Drain{Drain: &agentv1.Drain{}}})
			next := h.accept()
			p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Goodbye{Goodbye: &agentv1.Goodbye{Reason: why}}})
			p.gone()
			synctest.Wait()
			next.end <- status.Error(codes.Unavailable, "the hub stopped before Welcome")
			synctest.Wait()
			require.False(t, b.link.State().Superseded)
			begun := time.Now()
			h.accept().welcome()
			require.Less(t, time.Since(begun), 10*time.Second)
		})
	}
}

func TestManyAcksComeInFrames(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, p := b.connected()
		var changes []*agentv1.ObjectChange
		for i := range 500 {
			changes = append(changes, upsert("w"+time.Duration(i).String(), 1, bytes.Repeat([]byte("x"), 100)))
		}
		p.delta(changes...)
		objects := 0
		for {
			ack := p.ack()
			require.LessOrEqual(t, len(ack.GetObjects()), maxAcks)
			objects += len(ack.GetObjects())
			if ack.GetProcessedSeq() == 2 {
				break
			}
		}
		require.Equal(t, 500, objects, "credit comes back with the last of them")
	})
}
