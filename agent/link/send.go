// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/failpoint"
)

const (
	// statusBudget bounds the JSON of one StatusBatch; the rest of a frame is
	// for framing.
	statusBudget = 128 << 10
	// eventBatch is how many events go into one message.
	eventBatch = 50
	// reportEvery is the least time between two ClusterReports.
	reportEvery = time.Second
	// maxThrottle bounds what a hub may ask for.
	maxThrottle = 5 * time.Minute
)

// sender is the state of the send loop, which alone touches it.
type sender struct {
	*session
	beats       uint64
	nextBeat    time.Time
	nextResume  time.Time
	lastStatus  time.Time
	lastReport  time.Time
	parts       []*agentv1.SessionRequest // the rest of a status that needs several frames
	heldReport  bool
	takingLeave bool
}

// send writes to the stream until the session ends: always the most urgent
// message that is there. A message is made when it is about to be sent.
func (s *session) send(ctx context.Context) error {
	out := newSender(s, time.Now())
	for {
		message, wait := out.next(time.Now())
		if message == nil {
			if !out.await(ctx, wait) {
				return nil
			}
			continue
		}
		s.sendStarted.Store(max(1, int64(s.age())))
		pass(message)
		err := s.stream.Send(message)
		pass(message)
		s.sendStarted.Store(0)
		if errors.Is(err, io.EOF) {
			return nil // why is what Recv says
		}
		if err != nil {
			return err
		}
		if out.takingLeave {
			return s.stream.CloseSend()
		}
	}
}

func pass(message *agentv1.SessionRequest) {
	switch message.GetMessage().(type) {
	case *agentv1.SessionRequest_Ack:
		failpoint.Pass(failpoint.Ack)
	case *agentv1.SessionRequest_Status:
		failpoint.Pass(failpoint.Status)
	}
}

func newSender(s *session, now time.Time) *sender {
	return &sender{session: s, nextBeat: now.Add(s.heartbeat), nextResume: now.Add(s.link.antiEntropy())}
}

// await waits for something to send; false means that the session is over.
func (s *sender) await(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-s.link.wake:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// next returns the most urgent message, or how long to wait for one: acks and
// heartbeats, then leave-taking, then inventory, finalized objects, statuses,
// the report, events (c5, T19).
func (s *sender) next(now time.Time) (*agentv1.SessionRequest, time.Duration) {
	if ack := s.out.takeAck(); ack != nil {
		return ack, 0
	}
	// The hub's own heartbeat is answered with one that is due soon: so both ends
	// wake once for the two, and a hub that sends many together wakes seldom.
	if hubBeat := s.hubBeat.take(); !now.Before(s.nextBeat) || hubBeat && !now.Before(s.nextBeat.Add(-s.heartbeat/2)) {
		return s.beat(now), 0
	}
	if s.goodbye.take() {
		s.takingLeave = true
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Goodbye{Goodbye: &agentv1.Goodbye{Reason: reasonShutdown}}}, 0
	}
	if reply := s.out.takeReply(); reply != nil {
		return reply, 0
	}
	message, wait := s.status(now)
	if message == nil {
		message, wait = s.reportOrEvents(now, wait)
	}
	if message != nil {
		return message, 0
	}
	return nil, shorter(wait, s.nextBeat.Sub(now))
}

func (s *sender) beat(now time.Time) *agentv1.SessionRequest {
	s.beats++
	s.nextBeat = now.Add(s.heartbeat)
	beat := &agentv1.Heartbeat{Count: s.beats, Sent: timestamppb.New(now)}
	if !now.Before(s.nextResume) {
		beat.Resume = s.link.resume()
		s.nextResume = now.Add(s.link.antiEntropy())
	}
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: beat}}
}

// antiEntropy is the time until roots are compared again: 10 min, give or take.
func (l *Link) antiEntropy() time.Duration {
	return time.Duration(float64(antiEntropyEvery) * (1 - antiEntropyJitter + 2*antiEntropyJitter*l.cfg.Random()))
}

// status returns the next statuses, or how long a held back one waits. Those of
// finalized objects are never throttled.
func (s *sender) status(now time.Time) (*agentv1.SessionRequest, time.Duration) {
	if len(s.parts) > 0 {
		part := s.parts[0]
		s.parts = s.parts[1:]
		return part, 0
	}
	throttled := s.lastStatus.Add(time.Duration(s.throttle.Load())).Sub(now)
	items, wait := s.link.statuses.take(now, throttled > 0)
	if len(items) == 0 {
		if throttled > 0 {
			wait = shorter(wait, throttled)
		}
		return nil, wait
	}
	if throttled <= 0 {
		s.lastStatus = now
	}
	if len(items) == 1 && len(items[0].GetStatusJson()) > statusBudget {
		return s.bigStatus(items[0]), 0
	}
	return s.batch(items...), 0
}

// bigStatus sends one status packed, in as many parts as it needs.
func (s *sender) bigStatus(item *agentv1.ObjectStatus) *agentv1.SessionRequest {
	packed, compressed := s.link.cfg.Codec.Pack(item.GetStatusJson())
	for _, part := range cutStatus(item, packed, compressed) {
		s.parts = append(s.parts, s.batch(part))
	}
	first := s.parts[0]
	s.parts = s.parts[1:]
	return first
}

func (s *sender) batch(items ...*agentv1.ObjectStatus) *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Status{Status: &agentv1.StatusBatch{SessionEpoch: s.welcome.GetSessionEpoch(), Items: items}}}
}

// reportOrEvents returns what may be late or lost.
func (s *sender) reportOrEvents(now time.Time, wait time.Duration) (*agentv1.SessionRequest, time.Duration) {
	s.heldReport = s.link.report.take() || s.heldReport
	if s.heldReport && s.link.cfg.ClusterReport != nil {
		if left := s.lastReport.Add(reportEvery).Sub(now); left > 0 {
			wait = shorter(wait, left)
		} else {
			s.heldReport, s.lastReport = false, now
			report := s.link.cfg.ClusterReport().proto()
			return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_ClusterReport{ClusterReport: report}}, 0
		}
	}
	if list := s.link.events.take(eventBatch); len(list) > 0 {
		return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Events{Events: &agentv1.EventBatch{Events: list}}}, 0
	}
	return nil, wait
}
