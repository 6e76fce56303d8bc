// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/failpoint"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// receive reads frames until the stream ends. It does nothing that takes time,
// so that heartbeats are heard however slow the store is.
func (s *session) receive() error {
	for last := uint64(1); ; last++ {
		frame, err := s.stream.Recv()
		if err != nil {
			return err
		}
		if err := s.accept(frame, last); err != nil {
			return err
		}
	}
}

// accept takes the frame that came after number last.
func (s *session) accept(frame *agentv1.SessionResponse, last uint64) error {
	s.lastFrame.Store(int64(s.age()))
	if frame.GetSeq() != last+1 {
		return ended(reason.ProtocolError, "a frame with sequence number %d followed number %d", frame.GetSeq(), last)
	}
	return s.frame(frame)
}

// frame sorts one frame. An error ends the session.
func (s *session) frame(frame *agentv1.SessionResponse) error {
	switch message := frame.GetMessage().(type) {
	case *agentv1.SessionResponse_Delta:
		failpoint.Pass(failpoint.Receive)
		return s.queue.push(work{seq: frame.GetSeq(), delta: message.Delta})
	case *agentv1.SessionResponse_InventoryRequest:
		s.inventory(message.InventoryRequest)
	case *agentv1.SessionResponse_StatusAck:
		return s.statusAck(message.StatusAck)
	case *agentv1.SessionResponse_Heartbeat:
		if mark := wire.HighWaterOf(message.Heartbeat.GetHighWater()); mark.ResourceVersion != 0 {
			s.link.cfg.Hub.Marked(mark)
		}
		s.hubBeat.set()
		nudge(s.link.wake)
	case *agentv1.SessionResponse_Directive:
		return s.directive(message.Directive)
	case *agentv1.SessionResponse_Goodbye:
		return hubEnded(message.Goodbye.GetReason())
	case *agentv1.SessionResponse_Welcome:
		return ended(reason.ProtocolError, "the hub sent Welcome twice")
	default:
		s.log.Warn("the hub sent a message that this agent does not know; it is ignored", "seq", frame.GetSeq())
	}
	return nil
}

func (s *session) inventory(request *agentv1.InventoryRequest) {
	entries := s.link.statuses.entries
	if !request.GetStatuses() {
		entries = func() []wire.Entry { return s.link.cfg.Store.Snapshot().Entries }
	}
	s.out.reply(request.GetStatuses(), inventory(request, entries()))
}

func (s *session) statusAck(ack *agentv1.StatusAck) error {
	now := time.Now()
	for _, result := range ack.GetResults() {
		switch result.GetCode() {
		case agentv1.StatusCode_STATUS_CODE_PERSISTED, agentv1.StatusCode_STATUS_CODE_SUPERSEDED:
		default:
			s.log.Info("the hub did not persist a status", "object", wire.KeyOf(result.GetKey()), "code", result.GetCode(),
				"reason", result.GetError().GetReason(), "message", result.GetError().GetMessage())
		}
		if done := s.link.statuses.answer(result, now); done != nil {
			if err := s.queue.push(work{done: done}); err != nil {
				return err
			}
		}
	}
	s.link.cfg.Metrics.pending(s.link.statuses.unanswered())
	nudge(s.link.wake)
	return nil
}

// directive does what the hub asks the agent itself to do.
func (s *session) directive(directive *agentv1.Directive) error {
	switch d := directive.GetDirective().(type) {
	case *agentv1.Directive_Drain:
		s.wish(drained(d.Drain))
	case *agentv1.Directive_Throttle:
		s.throttle.Store(int64(duration(d.Throttle.GetStatusInterval(), 0, 0, maxThrottle)))
	case *agentv1.Directive_RenewNow:
		nudge(s.renew)
	case *agentv1.Directive_ReleaseHold, *agentv1.Directive_TrustBundle:
		return s.queue.push(work{directive: directive})
	default:
		s.log.Warn("the hub sent a directive that this agent does not know; it is ignored")
	}
	return nil
}

// obey carries out a directive that writes; it runs among the Deltas.
func (s *session) obey(ctx context.Context, work work) {
	switch d := work.directive.GetDirective().(type) {
	case *agentv1.Directive_ReleaseHold:
		if err := s.link.cfg.Hub.Release(ctx, d.ReleaseHold.GetBatchId()); err != nil {
			s.log.Error("a held batch could not be released; release it again", "batch", d.ReleaseHold.GetBatchId(), "error", err)
		}
		s.link.ReportCluster()
	case *agentv1.Directive_TrustBundle:
		if err := s.link.cfg.Credentials.Trust(ctx, d.TrustBundle); err != nil {
			s.log.Error("the hub's new roots were not taken", "version", d.TrustBundle.GetVersion(), "error", err)
			return
		}
		s.wish(replacement{why: "new roots", spread: s.link.backoff.spread}) // the next Hello confirms the version
	}
}
