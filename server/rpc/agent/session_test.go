// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/server/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in virtual time with a hub of its own.
func bubble(t *testing.T, test func(t *testing.T, h *hubFake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, startHub(t)) })
}

func TestSession_delivers_and_persists(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		a := h.connect("c1")
		require.Equal(t, agentv1.SyncMode_SYNC_MODE_IN_SYNC, a.welcome.GetSyncMode())
		h.kitchen.put("c1", "web", 2000)
		change := a.change("web")
		require.Len(t, change.GetUpsert().GetObjectJson(), 2000)
		require.NoError(t, a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Status{Status: &agentv1.StatusBatch{
			SessionEpoch: a.welcome.GetSessionEpoch(),
			Items: []*agentv1.ObjectStatus{{
				Key: change.GetKey(), Uid: "uid-web", ObservedGeneration: 1, ObservedDigest: change.GetRevision().GetDigest(), StatusSeq: 1,
				StatusJson: []byte(`{}`), UncompressedSize: 2, LastPart: true, Encoding: agentv1.Encoding_ENCODING_IDENTITY,
			}},
		}}}))
		result := a.next().GetStatusAck().GetResults()[0]
		require.Equal(t, agentv1.StatusCode_STATUS_CODE_PERSISTED, result.GetCode())
		h.kitchen.see("c1", func(c *clusterFake) {
			require.Len(t, c.statuses, 1)
			require.Equal(t, []string{""}, c.marks, "what is stored is delivered")
		})
		require.Equal(t, 1.0, h.metric("sessions"))
		require.Equal(t, 1.0, h.metric("session_starts_total"))
		require.Equal(t, 2000.0, h.metric("content_bytes_total"))

		// The connection breaks: the session is over at once; its Lease is given
		// back, with when it was last heard of, unless the agent comes back soon.
		last := time.Now()
		a.cancel()
		synctest.Wait()
		h.kitchen.see("c1", func(c *clusterFake) {
			require.Len(t, c.givenUp, 1)
			require.Empty(t, c.released)
		})
		time.Sleep(h.kitchen.Heartbeat("c1") / 2)
		synctest.Wait()
		h.kitchen.see("c1", func(c *clusterFake) {
			require.Len(t, c.released, 1)
			require.WithinDuration(t, last, c.released[0], 0)
			require.Empty(t, c.watchers, "nothing stays registered")
		})
		require.Equal(t, 0.0, h.metric("sessions"))
		require.Equal(t, 1.0, h.metric("session_ends_total", "reason", "DISCONNECTED"))
	})
}

// B1: what changes between the comparing of a Hello and its Welcome is neither in
// the comparison nor later; it has to be in the marks by then.
func TestT1_changes_while_a_session_opens(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		h.kitchen.summed = func() { h.kitchen.put("c1", "between", 100) }
		a := h.connect("c1")
		require.Equal(t, agentv1.SyncMode_SYNC_MODE_IN_SYNC, a.welcome.GetSyncMode())
		require.NotNil(t, a.change("between"))
	})
}

func TestSession_gives_its_lease_up_at_once(t *testing.T) {
	cases := map[string]struct {
		reason string
		end    func(t *testing.T, h *hubFake, a *agentFake)
	}{
		"goodbye": {"an agent that says goodbye is not waited for", func(t *testing.T, _ *hubFake, a *agentFake) {
			t.Helper()
			require.NoError(t, a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Goodbye{Goodbye: &agentv1.Goodbye{}}}))
		}},
		"kicked": {"nor is one that the hub has sent away", func(t *testing.T, h *hubFake, _ *agentFake) {
			t.Helper()
			require.True(t, h.service.Sessions().Kick("c1", ""))
		}},
		"stopped": {"the hub waits for nobody when it stops", func(_ *testing.T, h *hubFake, a *agentFake) {
			a.cancel()
			synctest.Wait()
			h.service.Wait()
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *hubFake) {
				a := h.connect("c1")
				begun := time.Now()
				tc.end(t, h, a)
				synctest.Wait()
				h.kitchen.see("c1", func(c *clusterFake) { require.Len(t, c.released, 1, tc.reason) })
				require.WithinDuration(t, begun, time.Now(), 0)
			})
		})
	}
}

// T46: the session ends with the certificate, also when its sender is blocked.
func TestT46_certificate_expires_in_mid_session(t *testing.T) {
	cases := map[string]struct {
		reason string
		works  int
	}{
		"idle":    {"an idle session says goodbye", 0},
		"blocked": {"a session whose agent does not read loses its connection", 20},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *hubFake) {
				begun := time.Now()
				a, err := h.tryConnect(t.Context(), "c1", 15*time.Second)
				require.NoError(t, err)
				require.Equal(t, begun.Add(15*time.Second), a.welcome.GetSessionDeadline().AsTime().Local()) //nolint:gosmopolitan // any zone but UTC
				for i := range tc.works {
					h.kitchen.put("c1", fmt.Sprint("work-", i), 200<<10)
				}
				waitGone(t, h)
				require.InDelta(t, 15.0, time.Since(begun).Seconds(), 1, tc.reason)
				require.Equal(t, 1.0, h.metric("session_ends_total", "reason", reason.CertificateExpired))
				if tc.works == 0 {
					require.Equal(t, reason.CertificateExpired, rpcerr.ReasonOf(a.live()))
				}
				h.kitchen.put("c1", "late", 100)
				_, err = h.tryConnect(t.Context(), "c1", -time.Second)
				require.Error(t, err, "an expired certificate does not connect again")
			})
		})
	}
}

// waitGone waits until the hub has no session, and is done with those it had, in
// virtual time.
func waitGone(t *testing.T, h *hubFake) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	h.service.Sessions().waitEmpty(ctx)
	require.NoError(t, ctx.Err(), "the session did not end")
	synctest.Wait()
}

// blockable is a connection whose reader can be stopped: TCP with a zero window.
type blockable struct {
	net.Conn
	mu      sync.Mutex
	blocked chan struct{}
}

func (b *blockable) Read(p []byte) (int, error) {
	b.mu.Lock()
	blocked := b.blocked
	b.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	return b.Conn.Read(p)
}

func (b *blockable) stop(t *testing.T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocked = make(chan struct{})
	t.Cleanup(func() { close(b.blocked) })
}

// T2, in small: an agent that stops reading is closed after 30 s; nobody else
// notices it, and new ones get their Welcome at once.
func TestT2_slow_consumer(t *testing.T) {
	cases := map[string]struct {
		reason string
		zero   bool // nothing is read from the connection; otherwise only not from the stream
	}{
		"zero window":      {"TCP is open and takes nothing", true},
		"reads no message": {"the connection lives, its pings too, but nobody takes the messages", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *hubFake) {
				link := &blockable{}
				slow := h.connect("slow", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					var err error
					link.Conn, err = h.server.DialRaw(ctx)
					return link, err
				}))
				other := h.connect("other")
				if tc.zero {
					link.stop(t)
				}
				var beating sync.WaitGroup // the agent's sender is well
				beating.Go(func() {
					for slow.stream.Send(beat()) == nil {
						<-time.After(5 * time.Second)
					}
				})
				for i := range 20 {
					h.kitchen.put("slow", fmt.Sprint("work-", i), 200<<10)
				}
				synctest.Wait()
				stalled := time.Now()
				for i := range 10 {
					sent := time.Now()
					h.kitchen.put("other", fmt.Sprint("work-", i), 1000)
					other.change(fmt.Sprint("work-", i))
					require.Less(t, time.Since(sent), 10*time.Millisecond, "the others do not wait")
				}
				begun := time.Now()
				h.connect("new")
				require.Less(t, time.Since(begun), time.Second)
				var living sync.WaitGroup
				living.Go(func() { _ = other.live() })
				for there := true; there; _, there = h.service.Sessions().Get("slow") {
					<-time.After(100 * time.Millisecond)
				}
				require.InDelta(t, 32.5, time.Since(stalled).Seconds(), 2.5, tc.reason)
				_, there := h.service.Sessions().Get("other")
				require.True(t, there)
				synctest.Wait() // it is counted after it is gone
				require.Equal(t, 1.0, h.metric("session_ends_total", "reason", reason.SlowConsumer))
				slow.cancel()
				other.cancel()
				beating.Wait()
				living.Wait()
			})
		})
	}
}

func TestSession_ends(t *testing.T) {
	cases := map[string]struct {
		why    string
		end    func(h *hubFake)
		reason string
		code   codes.Code
		within time.Duration
	}{
		"kicked":     {"an admin ends it", func(h *hubFake) { require.True(h.t, h.service.Sessions().Kick("c1", "")) }, reason.Kicked, codes.Unavailable, 0},
		"superseded": {"a newer session of the agent", func(h *hubFake) { h.connect("c1") }, reason.Superseded, codes.Aborted, 0},
		"restored": {"the hub went back in time", func(h *hubFake) {
			h.service.Sessions().EndAll(reason.HubRestored, "restored", 0)
		}, reason.HubRestored, codes.Unavailable, 0},
		"revoked": {"T45: told by a change", func(h *hubFake) {
			h.kitchen.refuse(reason.Revoked)
			h.service.Sessions().Recheck("c1")
		}, reason.Revoked, codes.PermissionDenied, 0},
		"revoked unheard": {"T45: found by the minute's check", func(h *hubFake) {
			h.kitchen.refuse(reason.NotAccepted)
		}, reason.NotAccepted, codes.PermissionDenied, time.Minute + 3*watchdogInterval},
		"drained": {"the replica goes away", func(h *hubFake) { h.service.Sessions().Drain(h.t.Context(), time.Minute) }, reason.Draining, codes.Unavailable, drainLinger + 100*time.Millisecond},
		"fenced":  {"the Lease is another's", func(h *hubFake) { h.service.Sessions().End("c1", "", reason.Fenced, "lost") }, reason.Fenced, codes.Aborted, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *hubFake) {
				a := h.connect("c1")
				synctest.Wait()
				begun := time.Now()
				var ending sync.WaitGroup
				ending.Go(func() { tc.end(h) })
				err := a.live()
				ending.Wait()
				require.Equal(t, tc.code, status.Code(err), "%s: %v", tc.why, err)
				require.Equal(t, tc.reason, rpcerr.ReasonOf(err), tc.why)
				require.LessOrEqual(t, time.Since(begun), tc.within, tc.why)
				synctest.Wait()
				require.Equal(t, 1.0, h.metric("session_ends_total", "reason", tc.reason))
			})
		})
	}
}

// T45: a revoked agent that does not read is cut within seconds, in the middle
// of a large object.
func TestT45_revoked_while_a_send_is_blocked(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		h.connect("c1")
		for i := range 20 {
			h.kitchen.put("c1", fmt.Sprint("work-", i), 200<<10)
		}
		synctest.Wait()
		require.NotZero(t, h.service.Sessions().Len())
		begun := time.Now()
		h.service.Sessions().End("c1", "", reason.Revoked, "revoked")
		waitGone(t, h)
		require.LessOrEqual(t, time.Since(begun), goodbyeGrace+100*time.Millisecond)
		require.Equal(t, 1.0, h.metric("session_ends_total", "reason", reason.Revoked))
	})
}

func TestSession_liveness(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		quiet, talking := h.connect("quiet"), h.connect("talking")
		var live sync.WaitGroup
		live.Go(func() { _ = talking.live() })
		begun := time.Now()
		var err error
		for err == nil { // takes messages, and never says anything
			_, err = quiet.stream.Recv()
		}
		require.Equal(t, reason.LivenessLost, rpcerr.ReasonOf(err))
		require.InDelta(t, 60, time.Since(begun).Seconds(), 1, "three heartbeats")
		require.Equal(t, 1, h.service.Sessions().Len(), "who talks stays")
		talking.cancel()
		live.Wait()
	})
}

func TestSession_is_refused(t *testing.T) {
	cases := map[string]struct {
		why    string
		set    func(k *kitchen)
		reason string
		code   codes.Code
	}{
		"starting": {"T5: before the caches have synced", func(k *kitchen) {
			k.ready = rpcerr.New(codes.Unavailable, reason.HubStarting, "starting").RetryIn(2 * time.Second)
		}, reason.HubStarting, codes.Unavailable},
		"duplicate": {"T60: another cluster has the identity", func(k *kitchen) {
			k.take = func(Claim) error { return rpcerr.New(codes.AlreadyExists, reason.DuplicateCluster, "two") }
		}, reason.DuplicateCluster, codes.AlreadyExists},
		"store": {"what went wrong inside stays inside", func(k *kitchen) {
			k.take = func(Claim) error { return errors.New("etcd") }
		}, reason.Internal, codes.Internal},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *hubFake) {
				tc.set(h.kitchen)
				_, err := h.tryConnect(t.Context(), "c1", time.Hour)
				require.Equal(t, tc.code, status.Code(err), tc.why)
				require.Equal(t, tc.reason, rpcerr.ReasonOf(err), tc.why)
				synctest.Wait()
				require.Equal(t, 1.0, h.metric("session_refusals_total", "reason", tc.reason))
				require.Zero(t, h.service.Sessions().Len())
			})
		})
	}
}

// T25: of many that come at once, those that do not get their turn in time are
// told when to come back: the later, the more of them there are.
func TestT25_sessions_being_opened_are_limited(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		stuck := make(chan struct{})
		h.kitchen.take = func(Claim) error {
			<-stuck
			return nil
		}
		var opening sync.WaitGroup
		const many = 200
		refused := make(chan error, many)
		for i := range many {
			conn := h.server.Dial(t, h.keys.Agent(t, fmt.Sprint("c", i), "uid", time.Hour))
			opening.Go(func() {
				_, err := h.open(t.Context(), conn, &agentv1.Hello{ProtocolMin: 1, ProtocolMax: 1, InstanceId: "i"})
				if err != nil {
					refused <- err
				}
			})
		}
		time.AfterFunc(openWait+4*time.Second, func() { close(stuck) })
		opening.Wait()
		close(refused)
		require.NotEmpty(t, refused)
		require.Equal(t, many-len(refused), h.service.Sessions().Len())
		for err := range refused {
			require.Equal(t, codes.ResourceExhausted, status.Code(err))
			require.Equal(t, reason.HubOverloaded, rpcerr.ReasonOf(err))
			require.GreaterOrEqual(t, rpcerr.RetryAfterOf(err), 2*time.Second)
		}
		require.Zero(t, h.service.queued.Load())
		h.service.queued.Store(10 * startsPerSecond)
		require.GreaterOrEqual(t, h.service.spread(), 10*time.Second, "the more wait, the later the others come back")
	})
}

func TestT38_an_agent_s_clock_is_measured_and_nothing_else(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		a := h.connect("c1")
		for _, offset := range []time.Duration{-10 * time.Minute, -10 * time.Minute, 10 * time.Minute, 10 * time.Minute, 0} {
			sent := timestamppb.New(time.Now().Add(-offset))
			require.NoError(t, a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{Sent: sent}}}))
			synctest.Wait()
			<-time.After(5 * time.Second)
			if offset > 0 {
				continue
			}
			<-time.After(5 * time.Second)
		}
		h.kitchen.see("c1", func(c *clusterFake) {
			require.NotEmpty(t, c.clocks)
			require.InDelta(t, -10*time.Minute, c.clocks[0], float64(time.Second))
		})
		require.Equal(t, 1, h.service.Sessions().Len(), "however wrong its clock is")
	})
}

func TestSession_report(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		a := h.connect("c1")
		_, known := h.service.Sessions().Held("c1")
		require.False(t, known)
		h.kitchen.see("c1", func(*clusterFake) { h.kitchen.reportErr = errors.New("apiserver away") })
		report := &agentv1.ClusterReport{
			KubernetesVersion: "v1.37.2", ApiserverHealthy: true, Claims: map[string]string{"region": "north"},
			Held: []*agentv1.HeldBatch{{BatchId: "b1", Entries: make([]*agentv1.InventoryEntry, 3)}},
		}
		require.NoError(t, a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: report}}))
		synctest.Wait()
		h.kitchen.mu.Lock()
		h.kitchen.reportErr = nil
		h.kitchen.mu.Unlock()
		<-time.After(reportRetry + time.Second)
		h.kitchen.see("c1", func(c *clusterFake) {
			require.Len(t, c.reports, 2, "tried again until it is written, and no more")
			require.Equal(t, "v1.37.2", c.reports[1].KubernetesVersion)
			require.Equal(t, 3, c.held[0].Objects)
			require.Contains(t, c.held[0].Message, "b1")
		})
		held, known := h.service.Sessions().Held("c1")
		require.True(t, known)
		require.Len(t, held, 1)
		require.Equal(t, 1.0, h.metric("held_deletes"))

		require.NoError(t, h.service.Sessions().ReleaseHold("c1", "b1"))
		require.Equal(t, "b1", a.next().GetDirective().GetReleaseHold().GetBatchId())
		require.ErrorIs(t, h.service.Sessions().ReleaseHold("c2", "b1"), ErrNoSession)
	})
}

// A fence that breaks at a write ends the session.
func TestSession_fenced_by_a_status(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		a := h.connect("c1")
		h.kitchen.put("c1", "web", 10)
		change := a.change("web")
		h.kitchen.see("c1", func(c *clusterFake) { c.answer = Answer{Fenced: true} })
		require.NoError(t, a.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Status{Status: &agentv1.StatusBatch{
			SessionEpoch: a.welcome.GetSessionEpoch(),
			Items:        []*agentv1.ObjectStatus{{Key: change.GetKey(), Uid: "uid-web", StatusSeq: 1, StatusJson: []byte(`{}`), UncompressedSize: 2, LastPart: true}},
		}}}))
		require.Equal(t, reason.Fenced, rpcerr.ReasonOf(a.live()))
	})
}

// A hub epoch that changes while a session is being opened ends it.
func TestSession_opened_during_a_restore(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		h.kitchen.take = func(Claim) error {
			h.kitchen.mu.Lock()
			defer h.kitchen.mu.Unlock()
			h.kitchen.hub = &session.Hub{Replica: "replica", ID: "hub", Epoch: "another"}
			return nil
		}
		a, err := h.tryConnect(t.Context(), "c1", time.Hour)
		if err == nil {
			err = a.live()
		}
		require.Equal(t, reason.HubRestored, rpcerr.ReasonOf(err))
	})
}

func TestRegistry_state(t *testing.T) {
	bubble(t, func(t *testing.T, h *hubFake) {
		a := h.connect("c1")
		h.connect("c2")
		begun := time.Now()
		states := h.service.Sessions().List()
		require.Len(t, states, 2)
		require.Equal(t, "c1", states[0].Cluster)
		require.Equal(t, a.welcome.GetSessionId(), states[0].SessionID)
		require.Equal(t, "fp", states[0].Fingerprint)
		require.Equal(t, begun, states[0].LastReceived)
		require.False(t, h.service.Sessions().Kick("c1", "not this one"))
		state, known := h.service.Sessions().Delivery("c1", wire.Key{Kind: wire.KindWork, Name: "web"})
		require.True(t, known)
		require.False(t, state.Dirty)
	})
}
