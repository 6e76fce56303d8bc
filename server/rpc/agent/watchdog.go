// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

const (
	// watchdogInterval is how often all sessions are looked at.
	watchdogInterval = 2 * time.Second
	// stallTimeout is how long a blocked Send may make no progress (c5).
	stallTimeout = 30 * time.Second
	// stallBytes is what counts as progress in that time. A connection whose
	// agent does not read still carries pings and window updates, some tens of
	// bytes each; a link that moves less than this is of no use either.
	stallBytes = 1 << 10
)

// stall is what the watchdog knows of one session. Only it touches this.
type stall struct {
	sending int64 // the Send it is about
	written uint64
	since   time.Time // no progress
	checked time.Time // right to exist
}

// look is one round over all sessions. It holds no lock and blocks on nothing.
func (s *Service) look(now time.Time) {
	for _, r := range s.sessions.runners() {
		if stalled := r.stalled(now); stalled >= stallTimeout {
			r.cut(reason.SlowConsumer, fmt.Sprintf("a message was not taken for %v", stalled.Round(time.Second)))
			continue
		}
		if r.stall.checked.IsZero() {
			r.stall.checked = now // the session has just been admitted
		}
		if now.Sub(r.stall.checked) >= s.cfg.Recheck {
			r.stall.checked = now
			r.recheckSoon()
		}
	}
}

// stalled is how long a Send has been blocked without the connection moving
// any bytes worth the name.
func (r *runner) stalled(now time.Time) time.Duration {
	sending := r.sending.Load()
	if sending == 0 {
		r.stall.sending = 0
		return 0
	}
	written := r.caller.Conn.Written()
	switch {
	case r.stall.sending != sending: // first seen: it has been blocked since it began
		r.stall.sending, r.stall.written, r.stall.since = sending, written, time.Unix(0, sending)
	case written-r.stall.written >= stallBytes:
		r.stall.written, r.stall.since = written, now
	}
	return now.Sub(r.stall.since)
}

// recheckSoon looks, beside the caller, whether the session may still exist.
// Only a refusal ends it; a failure to find out does not.
func (r *runner) recheckSoon() {
	r.service.Background("recheck", func() {
		err := rpcerr.From(r.service.cfg.Gate.Check(r.ctx, r.caller))
		if err == nil || r.ctx.Err() != nil {
			return
		}
		switch err.Code {
		case codes.PermissionDenied, codes.Unauthenticated:
			r.end(err.Reason, err.Message, err.RetryAfter)
		default:
			r.log().Warn("whether the session may go on could not be checked", "error", err)
		}
	})
}

func throttle(d time.Duration) *agentv1.Directive {
	return &agentv1.Directive{Directive: &agentv1.Directive_Throttle{Throttle: &agentv1.Throttle{StatusInterval: durationpb.New(d)}}}
}
