// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"sync"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	renewTimeout  = time.Minute
	renewMaxWait  = 5 * time.Minute
	drainFraction = 0.8 // of the time until close_at; the rest is for dialling
)

// replacement is a wish for a next session while this one goes on.
type replacement struct {
	why    string
	spread time.Duration // wait uniformly in [0, spread] first
	other  bool          // prefer another endpoint
	policy *agentv1.ReconnectPolicy
}

// drained reads what a hub that is about to stop asks for.
func drained(d *agentv1.Drain) replacement {
	r := replacement{why: d.GetReason(), other: true, policy: d.GetReconnect(), spread: defaultSpread}
	if asked := d.GetReconnect().GetSpread(); asked != nil {
		r.spread = min(max(0, asked.AsDuration()), capSpread)
	}
	if d.GetCloseAt() != nil {
		left := time.Until(d.GetCloseAt().AsTime())
		r.spread = min(r.spread, max(0, time.Duration(float64(left)*drainFraction)))
	}
	return r
}

// wish asks the supervisor for a next session; one wish at a time is enough.
func (s *session) wish(r replacement) {
	select {
	case s.replace <- r:
	default:
	}
}

// supervisor watches over one session: whether the hub is alive, when the
// certificate is to be renewed, when the next session is to be opened.
type supervisor struct {
	link    *Link
	session *session

	wait    *backoff // between attempts to renew or replace
	renewAt time.Time
	dialAt  time.Time // when to open the next session; zero for not
	wanted  replacement

	renewing bool
	dialling bool
	group    sync.WaitGroup // of the two goroutines that the next two channels are for
	renewed  chan error     // buffered: nobody has to listen
	dialled  chan dialled   // buffered
}

// dialled is a next session, or why there is none.
type dialled struct {
	next *session
	why  *Ended
}

// supervise returns when the session is over, with the next one if it is open.
// Then nothing that it started runs any more.
func (l *Link) supervise(ctx, sessionCtx context.Context, s *session) (next *session) {
	wait := newBackoff(l.cfg.Random)
	wait.max = renewMaxWait
	v := &supervisor{
		link: l, session: s, wait: wait, renewAt: l.cfg.Credentials.RenewAt(),
		renewed: make(chan error, 1), dialled: make(chan dialled, 1),
	}
	defer v.settle(&next)
	for {
		timer := time.NewTimer(v.idle(time.Now()))
		select {
		case <-sessionCtx.Done():
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			s.leave(sessionCtx)
			return nil
		case r := <-s.replace:
			v.want(r)
		case <-s.renew:
			v.renewAt = time.Now()
		case err := <-v.renewed:
			v.afterRenewal(err)
		case result := <-v.dialled:
			if v.afterDial(result) {
				timer.Stop()
				return result.next
			}
		case <-timer.C:
			v.act(ctx)
		}
		timer.Stop()
	}
}

// idle is how long nothing has to be done.
func (v *supervisor) idle(now time.Time) time.Duration {
	wait := v.session.silence()
	if v.mayRenew() {
		wait = min(wait, v.renewAt.Sub(now))
	}
	if !v.dialling && !v.dialAt.IsZero() {
		wait = min(wait, v.dialAt.Sub(now))
	}
	return max(wait, 0)
}

// act does what is due.
func (v *supervisor) act(ctx context.Context) {
	now := time.Now()
	v.session.checkAlive()
	// Not while the next session is opened: its certificate may be newer than this
	// one's, which must not be shown any more then.
	if v.mayRenew() && !now.Before(v.renewAt) {
		v.startRenewal(ctx)
	}
	if !v.dialling && !v.dialAt.IsZero() && !now.Before(v.dialAt) {
		v.startDial(ctx)
	}
}

func (v *supervisor) mayRenew() bool { return !v.renewing && !v.dialling && !v.renewAt.IsZero() }

func (v *supervisor) startRenewal(ctx context.Context) {
	v.renewing = true
	v.group.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, renewTimeout)
		defer cancel()
		v.renewed <- v.link.cfg.Credentials.Renew(ctx, v.session.conn)
	})
}

func (v *supervisor) startDial(ctx context.Context) {
	v.dialling, v.dialAt = true, time.Time{}
	if v.wanted.other {
		v.link.endpoints.Other(time.Now())
		v.wanted.other = false
	}
	endpoint := v.link.endpoints.Current()
	v.group.Go(func() {
		next, why := v.link.connect(ctx, endpoint)
		if why != nil {
			v.link.cfg.Log.Warn("the next session could not be opened yet; the present one goes on", "reason", why.Reason, "error", why)
		}
		v.dialled <- dialled{next, why}
	})
}

func (v *supervisor) want(r replacement) {
	v.link.cfg.Log.Info("the next session will be opened before this one ends", "why", r.why, "within", r.spread)
	v.wanted = r
	v.link.backoff.policy(r.policy)
	v.dialAt = time.Now().Add(v.wait.upTo(r.spread))
}

func (v *supervisor) afterRenewal(err error) {
	v.renewing = false
	if err != nil {
		why := endedBy(err)
		again := v.wait.next(why)
		v.link.cfg.Log.Error("the certificate could not be renewed", "reason", why.Reason, "error", err, "retryIn", again.Round(time.Second))
		v.renewAt = time.Now().Add(again)
		return
	}
	v.wait.failures = 0
	v.renewAt = v.link.cfg.Credentials.RenewAt()
	v.want(replacement{why: "new certificate"})
}

// afterDial tells whether next takes over.
func (v *supervisor) afterDial(result dialled) bool {
	v.dialling = false
	if result.next == nil {
		v.dialAt = time.Now()
		if !v.link.elsewhere(result.why) {
			v.dialAt = v.dialAt.Add(v.wait.upTo(v.link.backoff.max))
		}
		return false
	}
	v.session.end(ended(reasonReplaced, "the next session is open"))
	return true
}

// settle waits for what was started. If the session ended while the next one
// was being opened, that one is still of use.
func (v *supervisor) settle(next **session) {
	if v.renewing {
		_ = v.session.conn.Close() // ends the call
	}
	v.group.Wait()
	if v.dialling {
		result := <-v.dialled
		if result.why != nil {
			v.link.elsewhere(result.why)
		}
		*next, v.session.replacing = result.next, true
	}
}

// silence is how long the session may go on without another look at it.
func (s *session) silence() time.Duration {
	age := s.age()
	wait := time.Duration(s.lastFrame.Load()) + s.liveness - age
	if started := s.sendStarted.Load(); started != 0 {
		wait = min(wait, time.Duration(started)+sendStall-age)
	}
	return wait
}

// checkAlive ends a session whose hub is silent, or does not read.
func (s *session) checkAlive() {
	age := s.age()
	if silent := age - time.Duration(s.lastFrame.Load()); silent >= s.liveness {
		s.end(ended(reason.LivenessLost, "nothing was received for %s", silent.Round(time.Second)))
	}
	if started := s.sendStarted.Load(); started != 0 {
		if stalled := age - time.Duration(started); stalled >= sendStall {
			s.end(ended(reasonSendStalled, "the hub has not read for %s", stalled.Round(time.Second)))
		}
	}
}

// leave says goodbye, and waits a moment for the hub to have heard it.
func (s *session) leave(ctx context.Context) {
	s.goodbye.set()
	nudge(s.link.wake)
	pause(ctx, goodbyeTimeout)
}
