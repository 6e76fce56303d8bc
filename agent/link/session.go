// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// How often and how long, where the hub does not say (c14), and its bounds.
const (
	defaultHeartbeat = 20 * time.Second
	minHeartbeat     = 250 * time.Millisecond
	maxHeartbeat     = time.Minute
	missedHeartbeats = 3
	maxLiveness      = 5 * time.Minute

	// sendStall is how long one Send may take while the hub is heard.
	sendStall = 2 * time.Minute
)

// session is one stream, from Welcome to its end.
type session struct {
	link     *Link
	log      *slog.Logger
	endpoint string
	conn     *grpc.ClientConn
	stream   agentv1.AgentService_SessionClient
	end      context.CancelCauseFunc // ends the stream; the cause is an *Ended
	welcome  *agentv1.Welcome

	heartbeat, liveness time.Duration

	out    *outbox
	intake *intake
	queue  *queue

	born        time.Time    // times below count from here: a clock that is set does not matter
	lastFrame   atomic.Int64 // when something was received, in nanoseconds
	sendStarted atomic.Int64 // when the running Send began; 0 when none runs
	throttle    atomic.Int64 // least time between status batches, in nanoseconds
	goodbye     flag         // the sender is to take leave
	hubBeat     flag         // the hub sent a heartbeat
	replacing   bool         // the next session was being opened when this one ended; the supervisor's own

	replace chan replacement // wishes for a next session
	renew   chan struct{}    // the hub wants the certificate renewed
}

// newSession completes a session of which link, conn, stream, end, welcome and
// endpoint are set.
func newSession(s *session) *session {
	l, welcome := s.link, s.welcome
	s.log = l.cfg.Log.With("session", welcome.GetSessionId())
	s.out, s.queue = newOutbox(l.wake), newQueue(l.cfg.Window)
	s.replace, s.renew = make(chan replacement, 1), make(chan struct{}, 1)
	s.heartbeat = duration(welcome.GetHeartbeatInterval(), defaultHeartbeat, minHeartbeat, maxHeartbeat)
	s.liveness = duration(welcome.GetLivenessTimeout(), missedHeartbeats*s.heartbeat, 2*s.heartbeat, maxLiveness)
	s.intake = newIntake(&l.cfg, s.log, welcome.GetLimits().GetMaxObjectBytes(), func(key wire.Key, uid string) {
		// Nothing of an object that was never held here was ever applied here.
		l.Report(Status{Key: key, UID: uid, Finalized: true})
	})
	s.intake.wanted, s.intake.synced = l.statuses.wanted, l.synced
	s.born = time.Now()
	return s
}

// age is how long the session exists.
func (s *session) age() time.Duration { return time.Since(s.born) }

// close ends the connection without a word.
func (s *session) close() {
	s.end(ended(reasonReplaced, "not served"))
	_ = s.conn.Close()
}

// serve runs a session until it ends. If the next session was opened meanwhile,
// it is returned; otherwise why there is none.
func (l *Link) serve(ctx context.Context, s *session) (next *session, why *Ended) { //nolint:contextcheck // the stream outlives ctx by a goodbye
	l.began(s)
	l.backoff.policy(s.welcome.GetReconnect())
	group, groupCtx := errgroup.WithContext(s.stream.Context())
	if err := s.open(groupCtx); err != nil { //nolint:contextcheck // as above
		s.end(err)
	} else {
		group.Go(func() error { return s.receive() })
		group.Go(func() error { return s.workOff(groupCtx) })
		group.Go(func() error { return s.send(groupCtx) })
	}
	next = l.supervise(ctx, groupCtx, s)
	s.end(ended(reasonShutdown, "the agent ended it")) // no effect where there is a cause already
	err := group.Wait()
	_ = s.conn.Close()
	why = s.why(err) //nolint:contextcheck // it asks the stream's context why it ended
	why = s.byItself(why, next)
	l.lost(why)
	return next, why
}

// byItself corrects why a session ended: if the agent was opening the next one
// meanwhile, it was no other that took the session from it.
func (s *session) byItself(why *Ended, next *session) *Ended {
	switch {
	case next != nil:
		return ended(reasonReplaced, "the next session is open")
	case s.replacing && (why.Reason == reason.Superseded || why.Reason == reason.SerialMismatch):
		return ended(reasonDisconnected, "the next session was lost while it was being opened: %v", why)
	}
	return why
}

// open tells the store, before anything else, whose session begins.
func (s *session) open(ctx context.Context) error {
	w, cfg := s.welcome, &s.link.cfg
	err := cfg.Hub.Welcomed(ctx, Welcome{
		HubID: w.GetHubId(), HubEpoch: w.GetHubEpoch(), HighWater: wire.HighWaterOf(w.GetHighWater()), OrphanGrace: w.GetOrphanGrace().AsDuration(),
	})
	if err != nil {
		return &Ended{Reason: reasonOtherHub, Err: err}
	}
	if bundle := w.GetTrustBundle(); bundle != nil {
		if err := cfg.Credentials.Trust(ctx, bundle); err != nil {
			s.log.Error("the hub's new roots were not taken", "version", bundle.GetVersion(), "error", err)
		}
	}
	if w.GetSyncMode() == agentv1.SyncMode_SYNC_MODE_IN_SYNC {
		if err := s.link.synced(ctx, nil); err != nil {
			return &Ended{Reason: reasonDisconnected, Err: fmt.Errorf("noting that everything is in sync: %w", err)}
		}
	}
	s.link.statuses.begin(w.GetResendStatuses())
	if w.GetResendStatuses() {
		cfg.ResendStatuses()
	}
	s.link.report.set()
	nudge(s.link.wake)
	return nil
}

// why names the end: our own reason if we ended it, else what the hub or the
// network said.
func (s *session) why(err error) *Ended {
	var own *Ended
	ours := errors.As(context.Cause(s.stream.Context()), &own)
	switch {
	case ours && (own.Reason != reasonShutdown || err == nil):
		return own
	case errors.Is(err, io.EOF):
		return hubEnded("")
	}
	return endedBy(err)
}

// workOff stores what was received, one frame after the other.
func (s *session) workOff(ctx context.Context) error {
	for {
		item, ok := s.queue.pop(ctx)
		if !ok {
			return nil
		}
		if err := s.do(ctx, item); err != nil {
			return err
		}
	}
}

// do works off one item.
func (s *session) do(ctx context.Context, item work) error {
	switch {
	case item.done != nil:
		s.forget(ctx, *item.done)
	case item.directive != nil:
		s.obey(ctx, item)
	default:
		acks, err := s.intake.delta(ctx, item.delta)
		if err != nil {
			return err
		}
		s.out.ack(item.seq, acks...)
		s.queue.finished(item)
	}
	return nil
}

// forget drops a finalized object; until that is durable it is reported again.
func (s *session) forget(ctx context.Context, done finished) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.link.cfg.Store.Forget(ctx, done.key, done.uid); err != nil {
		s.log.Warn("a finished delete could not be dropped from the store; trying again", "object", done.key, "error", err)
		s.link.statuses.reportAgain(done, time.Now())
		nudge(s.link.wake)
	}
}
