// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/server/session"
)

func TestHello_welcome_says_what_the_agent_needs(t *testing.T) {
	w := newWorld()
	w.cfg.Deadline = w.now.Add(time.Hour)
	w.cfg.Hub.Features = []string{"one", "two"}
	w.cfg.Trust = &agentv1.TrustBundle{Version: 3}
	hello := w.agent.hello()
	hello.Features, hello.TrustBundleVersion = []string{"two", "three"}, 2
	hello.Resume.StatusRoot = make([]byte, 32)
	core := session.New(w.cfg, w.hub)
	require.Nil(t, core.Next(w.now), "nothing before Hello")
	core.Step(w.now, session.Hello{Message: hello})
	m := core.Next(w.now)
	welcome := m.GetWelcome()
	require.Equal(t, uint64(1), m.GetSeq())
	require.Equal(t, []string{"two"}, welcome.GetFeatures())
	require.Equal(t, uint64(3), welcome.GetTrustBundle().GetVersion())
	require.Equal(t, hubID, welcome.GetHubId())
	require.Equal(t, hubEpoch, welcome.GetHubEpoch())
	require.Equal(t, uint64(7), welcome.GetSessionEpoch())
	require.Equal(t, 20*time.Second, welcome.GetHeartbeatInterval().AsDuration())
	require.Equal(t, time.Minute, welcome.GetLivenessTimeout().AsDuration())
	require.Equal(t, time.Hour, welcome.GetOrphanGrace().AsDuration())
	require.Equal(t, w.cfg.Deadline, welcome.GetSessionDeadline().AsTime())
	require.Equal(t, uint64(wire.MaxObject), welcome.GetLimits().GetMaxObjectBytes())
	require.Equal(t, w.hub.HighWater(), wire.HighWaterOf(welcome.GetHighWater()))
	require.False(t, welcome.GetResendStatuses())
}

func TestHello_statuses_are_asked_for_when_the_roots_differ(t *testing.T) {
	w := connected("web")
	hello := w.agent.hello()
	hello.Resume.StatusRoot = make([]byte, 32)
	hello.Resume.StatusRoot[0] = 1
	core := session.New(w.cfg, w.hub)
	core.Step(w.now, session.Hello{Message: hello})
	require.True(t, core.Next(w.now).GetWelcome().GetResendStatuses())
}

func TestT63_an_agent_of_another_protocol_is_told_so(t *testing.T) {
	cases := map[string]struct {
		reason   string
		min, max uint32
		closed   bool
	}{
		"older":   {"it knows nothing that we speak", 0, 0, true},
		"newer":   {"it has forgotten what we speak", 2, 3, true},
		"overlap": {"both speak 1", 1, 3, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.core = session.New(w.cfg, w.hub)
			w.step(session.Hello{Message: &agentv1.Hello{ProtocolMin: tc.min, ProtocolMax: tc.max}})
			require.Equal(t, tc.closed, w.closed != nil, tc.reason)
			if tc.closed {
				require.Equal(t, "PROTOCOL_TOO_OLD", w.closed.Reason)
				require.Equal(t, 10*time.Minute, w.closed.RetryAfter)
				require.Nil(t, w.core.Next(w.now), "no Welcome was said, so there is no Goodbye")
			}
		})
	}
}

func TestHello_comes_first_and_once(t *testing.T) {
	w := newWorld()
	w.core = session.New(w.cfg, w.hub)
	w.tell(ackOf(0))
	require.Equal(t, "PROTOCOL_ERROR", w.closed.Reason)

	w.core, w.closed = session.New(w.cfg, w.hub), nil
	w.step(session.Hello{})
	require.Equal(t, "PROTOCOL_ERROR", w.closed.Reason)

	w.closed = nil
	w.connect()
	w.step(session.Hello{Message: w.agent.hello()})
	require.Equal(t, "PROTOCOL_ERROR", w.closed.Reason)
}

func TestClock_wakeup_is_the_earliest_of_what_time_alone_does(t *testing.T) {
	w := connected("web")
	require.Equal(t, w.now.Add(20*time.Second), w.core.Wakeup(), "heartbeat")

	w.agent.retries[work("web")] = 1
	w.hub.put("web", []byte("new"))
	w.run()
	require.Equal(t, w.now.Add(time.Second), w.core.Wakeup(), "retry")

	w.step(session.Drain{CloseAt: w.now.Add(10 * time.Millisecond)})
	require.Equal(t, w.now.Add(10*time.Millisecond), w.core.Wakeup(), "drain")

	w.step(session.End{Reason: "KICKED"})
	require.Zero(t, w.core.Wakeup(), "never")
}

func TestT45_the_session_ends_with_the_certificate(t *testing.T) {
	w := newWorld()
	w.cfg.Deadline = w.now.Add(3 * time.Minute)
	w.connect()
	w.wait(5 * time.Minute)
	require.Equal(t, "CERTIFICATE_EXPIRED", w.closed.Reason)
	require.Equal(t, "CERTIFICATE_EXPIRED", w.agent.goodbye)
	require.Equal(t, w.cfg.Deadline, w.now)
}

func TestClock_an_agent_that_never_answers_the_inventory_is_let_go(t *testing.T) {
	w := connected("web")
	w.agent.forget()
	w.connect()
	w.pull(10)
	for range 7 {
		w.now = w.now.Add(20 * time.Second)
		w.step(session.Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}})
		w.step(session.Tick{})
	}
	require.Equal(t, "SLOW_CONSUMER", w.closed.Reason)
}

// forget lets an agent lose its store without noticing.
func (a *agent) forget() { a.holds = map[wire.Key]*holding{} }

func TestDirect_the_newest_of_a_kind_is_sent(t *testing.T) {
	w := connected()
	directives := []*agentv1.Directive{
		{Directive: &agentv1.Directive_Throttle{Throttle: &agentv1.Throttle{}}},
		{Directive: &agentv1.Directive_RenewNow{RenewNow: &agentv1.RenewNow{}}},
		{Directive: &agentv1.Directive_TrustBundle{TrustBundle: &agentv1.TrustBundle{Version: 1}}},
		{Directive: &agentv1.Directive_ReleaseHold{ReleaseHold: &agentv1.ReleaseHold{BatchId: "a"}}},
		{Directive: &agentv1.Directive_ReleaseHold{ReleaseHold: &agentv1.ReleaseHold{BatchId: "b"}}},
		{Directive: &agentv1.Directive_Drain{Drain: &agentv1.Drain{}}},
		nil,
	}
	for range 3 {
		for _, d := range directives {
			w.step(session.Direct{Directive: d})
		}
	}
	n := 0
	for m := w.core.Next(w.now); m != nil; m = w.core.Next(w.now) {
		require.NotNil(t, m.GetDirective())
		n++
	}
	require.Equal(t, 6, n)
}

func TestFrame_an_unknown_message_is_answered_and_counted(t *testing.T) {
	w := connected()
	w.effects = nil
	for range 3 {
		w.step(session.Frame{Message: &agentv1.SessionRequest{}})
	}
	require.Len(t, w.effects, 3)
	results := w.results()
	require.Len(t, results, 1)
	require.Equal(t, "UNSUPPORTED", results[0].GetError().GetReason())
	require.Nil(t, w.closed)
}

func TestFrame_reports_and_events_are_passed_on(t *testing.T) {
	w := connected()
	w.effects = nil
	w.tell(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: &agentv1.ClusterReport{KubernetesVersion: "1.37"}}})
	w.tell(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Events{Events: &agentv1.EventBatch{Events: make([]*agentv1.ClusterEvent, 300)}}})
	w.tell(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Goodbye{Goodbye: &agentv1.Goodbye{Reason: "stopping"}}})
	require.Equal(t, "1.37", w.effects[0].(session.ReportCluster).Report.GetKubernetesVersion())
	require.Len(t, w.effects[1].(session.ReportEvents).Events, 100)
	require.Equal(t, session.Close{Message: "the agent left: stopping"}, w.effects[2])
	require.Nil(t, w.core.Next(w.now))
}

func TestInbox_ten_marks_are_one(t *testing.T) {
	var inbox session.Inbox
	require.True(t, inbox.Put(session.Marked{Key: work("a")}))
	require.False(t, inbox.Put(session.Marked{Key: work("b"), UID: "old"}))
	for i := range 10 {
		require.False(t, inbox.Put(session.Marked{Key: work("a"), UID: strconv.Itoa(i)}))
	}
	require.Equal(t, []session.Marked{{Key: work("a"), UID: "0"}, {Key: work("b"), UID: "old"}}, inbox.Take())
	require.Nil(t, inbox.Take())
	require.True(t, inbox.Put(session.Marked{Key: work("a")}))
}

func TestDirty_content_that_cannot_be_read_is_tried_again(t *testing.T) {
	w := connected()
	w.hub.unreadable[work("web")] = true
	w.hub.put("web", []byte("x"))
	w.run()
	require.True(t, w.core.State(work("web")).Dirty)
	delete(w.hub.unreadable, work("web"))
	w.wait(time.Second)
	requireSame(t, w)
}

func TestDirty_a_failed_finalizer_holds_the_work_back(t *testing.T) {
	w := connected()
	core := w.core
	w.hub.put("bare", []byte("x"), func(o *object) { o.finalizer = false })
	effects := core.Step(w.now, session.Marked{Key: work("bare")})
	require.Equal(t, []session.Effect{session.EnsureFinalizer{Key: work("bare"), UID: "uid-1"}}, effects)
	require.Nil(t, core.Next(w.now))
	core.Step(w.now, session.FinalizerDone{Key: work("bare"), UID: "uid-1", Failed: true})
	require.Nil(t, core.Next(w.now))
	require.Equal(t, w.now.Add(time.Second), core.Wakeup())
	w.now = core.Wakeup()
	require.Len(t, core.Step(w.now, session.Tick{}), 1, "asked again")
	core.Step(w.now, session.FinalizerDone{Key: work("bare"), UID: "uid-1"})
	require.NotNil(t, core.Next(w.now).GetDelta(), "though the index has not seen it yet")
}

func TestHeartbeats_of_many_sessions_come_together(t *testing.T) {
	times := map[time.Time]bool{}
	for i := range 20 {
		w := newWorld()
		w.now = w.now.Add(time.Duration(i) * 47 * time.Millisecond)
		w.connect()
		w.pull(10)
		began, last := w.now, w.now
		for range 3 {
			for w.now = w.core.Wakeup(); ; w.now = w.core.Wakeup() {
				w.agent.inbox = nil
				w.step(session.Frame{Message: &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}})
				w.step(session.Tick{})
				if w.pull(1) {
					break
				}
			}
			require.LessOrEqual(t, w.now.Sub(last), 20*time.Second, "never later than was promised")
			require.Greater(t, w.now.Sub(last), 18*time.Second, "and not much earlier")
			last = w.now
		}
		require.NotEqual(t, began, last)
		times[last] = true
	}
	require.LessOrEqual(t, len(times), 2, "sessions that began within a second wake the process together")
}
