// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// Steps is one session without its goroutines and its stream: the same code,
// driven one step at a time by whoever made it, so that a simulation can replay
// every conversation. A Link that is driven this way is never Run. Not safe for
// concurrent use.
type Steps struct {
	session *session
	sender  *sender
	last    uint64 // sequence number
	over    error
}

// Hello is what the agent begins a session with.
func (l *Link) Hello() *agentv1.Hello { return l.hello() }

// Begin begins a session whose first frame has come.
func (l *Link) Begin(ctx context.Context, first *agentv1.SessionResponse) (*Steps, error) {
	welcome, err := l.checkWelcome(first)
	if err != nil {
		return nil, err
	}
	steps := &Steps{last: first.GetSeq()}
	steps.session = newSession(&session{link: l, welcome: welcome, end: func(cause error) { steps.over = cause }})
	l.began(steps.session)
	l.backoff.policy(welcome.GetReconnect())
	if err := steps.session.open(ctx); err != nil {
		return nil, err
	}
	steps.sender = newSender(steps.session, time.Now())
	return steps, nil
}

// Pause notes why a session, or an attempt at one, ended and how long it lasted;
// it returns how long to wait before the next attempt.
func (l *Link) Pause(err error, lasted time.Duration) time.Duration {
	l.backoff.after(lasted)
	return l.backoff.next(endedBy(err))
}

// Receive takes one frame; an error ends the session.
func (s *Steps) Receive(frame *agentv1.SessionResponse) error {
	err := s.session.accept(frame, s.last)
	s.last = frame.GetSeq()
	return err
}

// Work works off one thing that was received, if there is any; an error ends
// the session.
func (s *Steps) Work(ctx context.Context) (did bool, err error) {
	item, ok := s.session.queue.take()
	if !ok {
		return false, nil
	}
	return true, s.session.do(ctx, item)
}

// Next is the most urgent message to send, or nil and how long to wait for one
// if nothing else happens.
func (s *Steps) Next() (message *agentv1.SessionRequest, wait time.Duration) {
	return s.sender.next(time.Now())
}

// Wish tells whether the next session is to be opened while this one goes on,
// and over what time to spread that.
func (s *Steps) Wish() (spread time.Duration, wished bool) {
	select {
	case r := <-s.session.replace:
		s.session.link.backoff.policy(r.policy)
		return r.spread, true
	default:
		return 0, false
	}
}

// Replaced ends the session because the next one is open.
func (s *Steps) Replaced() { s.session.link.lost(ended(reasonReplaced, "the next session is open")) }

// Alive returns why the session has to end by now because the hub is silent.
func (s *Steps) Alive() error {
	s.session.checkAlive()
	return s.over
}

// Silence is after what time to ask Alive again.
func (s *Steps) Silence() time.Duration { return s.session.silence() }
