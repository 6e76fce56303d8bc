// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/authz"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/server/session"
)

const (
	// goodbyeGrace is how long a session that has to end may take to say so. A
	// Send that is blocked by then loses its connection, so that a revoked agent
	// is gone at once even in the middle of a large object.
	goodbyeGrace = time.Second
	// expiryGrace: the core ends the session at NotAfter; this is for one whose
	// sender is blocked then.
	expiryGrace = 500 * time.Millisecond
	// releaseTimeout bounds giving the Lease up.
	releaseTimeout = 10 * time.Second
)

// runner is one session: the core and what surrounds it. The handler's
// goroutine owns the stream for sending and runs sendLoop; one more goroutine
// receives. mu guards core and closing, and is held neither over a Send nor over
// a callback.
type runner struct {
	// Immutable once the session is open.
	service *Service
	stream  grpc.BidiStreamingServer[agentv1.SessionRequest, agentv1.SessionResponse]
	ctx     context.Context //nolint:containedctx // the stream's own
	caller  *authz.Caller
	started time.Time
	hold    Hold
	works   Works
	unwatch func()

	id, cluster, agentID, instance, fingerprint string

	first  chan firstFrame
	opened chan struct{} // closed when core may get frames
	wake   chan struct{}
	inbox  session.Inbox

	mu      sync.Mutex
	core    *session.Core
	wakeup  time.Time      // for which the sender sleeps, if it does; zero: for none
	closing *session.Close // why the session ends; set once
	guard   *time.Timer    // cuts the connection if the goodbye takes too long

	left     atomic.Bool  // the agent said goodbye
	received atomic.Int64 // when the last frame came, unix nanoseconds
	sending  atomic.Int64 // when the Send in progress began; 0: none
	stall    stall        // the watchdog's own
	reports  reports
	clock    agentClock // the receiver's own
}

// log is made when it is needed, which is rarely.
func (r *runner) log() *slog.Logger {
	return r.service.cfg.Log.With("cluster", r.cluster, "session", r.id)
}

type firstFrame struct {
	frame *agentv1.SessionRequest
	err   error
}

// run sends until the session ends, and cleans up.
func (r *runner) run() error {
	r.log().Info("session started", "epoch", r.hold.Epoch, "agent", r.agentID, "instance", r.instance, "remote", r.caller.Remote)
	expiry := time.AfterFunc(time.Until(r.caller.NotAfter)+expiryGrace, func() {
		r.cut(reason.CertificateExpired, "the certificate expired")
	})
	err := r.sendLoop()
	expiry.Stop()
	return r.finish(err)
}

// sendLoop pulls messages out of the core and sends them, one at a time; it
// sleeps while there is nothing to send.
func (r *runner) sendLoop() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		message, wakeup, ended := r.pull()
		if message != nil {
			if err := r.send(message); err != nil {
				return err
			}
			continue
		}
		if ended {
			return nil
		}
		if !wakeup.IsZero() {
			timer.Reset(time.Until(wakeup))
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-r.wake:
		case <-timer.C:
			r.step(session.Tick{})
		}
	}
}

// pull is the next message; when there is none, when to look again, and
// whether there will never be one.
func (r *runner) pull() (message *agentv1.SessionResponse, wakeup time.Time, ended bool) {
	now := time.Now()
	var effects []session.Effect
	r.mu.Lock()
	for _, m := range r.inbox.Take() {
		effects = append(effects, r.core.Step(now, m)...)
	}
	message = r.core.Next(now)
	if message == nil {
		wakeup, ended = r.core.Wakeup(), r.closing != nil
		r.wakeup = wakeup
	}
	r.mu.Unlock()
	r.carry(effects)
	return message, wakeup, ended
}

// send may block for as long as the watchdog lets it.
func (r *runner) send(message *agentv1.SessionResponse) error {
	r.service.faults.lose(message)
	r.sending.Store(time.Now().UnixNano())
	err := r.stream.Send(message)
	r.sending.Store(0)
	r.service.metrics.sent(message)
	return err
}

// receive hands frames to the core until the stream ends. It ends soon after
// the handler has returned, since that ends the stream.
func (r *runner) receive() {
	frame, err := r.stream.Recv()
	r.first <- firstFrame{frame, err}
	if err != nil {
		return
	}
	select {
	case <-r.opened:
		r.receiveFrames()
	case <-r.ctx.Done():
	}
}

// receiveFrames goes on in a goroutine of its own after a frame that is likely to
// be followed by none for some seconds. Whatever was called deeper than Recv has
// left a stack twice as large as waiting there needs.
func (r *runner) receiveFrames() {
	for {
		frame, err := r.stream.Recv()
		if err != nil {
			r.end("", "the agent's side of the stream ended", 0) // io.EOF, or the connection is gone
			return
		}
		r.received.Store(time.Now().UnixNano())
		if frame.GetGoodbye() != nil {
			r.left.Store(true)
		}
		r.step(session.Frame{Message: frame})
		r.tellClock(frame.GetHeartbeat())
		if frame.GetHeartbeat() != nil || frame.GetClusterReport() != nil {
			r.service.Background("receiver", r.receiveFrames)
			return
		}
	}
}

// step gives the core one input, from any goroutine. The sender is woken only if
// there may be something for it: acks and heartbeats mostly leave nothing.
func (r *runner) step(in session.Input) {
	r.mu.Lock()
	effects := r.core.Step(time.Now(), in)
	wakeup := r.core.Wakeup()
	idle := r.core.Quiet() && !wakeup.IsZero() && !wakeup.Before(r.wakeup)
	r.mu.Unlock()
	r.carry(effects)
	if !idle {
		r.notify()
	}
}

// notify wakes the sender; it never blocks.
func (r *runner) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// end asks the core to say goodbye. The first reason counts.
func (r *runner) end(why, message string, retryAfter time.Duration) {
	r.step(session.End{Reason: why, Message: message, RetryAfter: retryAfter})
}

// cut ends the session without a goodbye, by closing its connection: the only
// way to wake a Send that is blocked.
func (r *runner) cut(why, message string) {
	r.close(session.Close{Reason: why, Message: message})
	_ = r.caller.Conn.Close()
}

// close notes why the session ends; the first reason counts.
func (r *runner) close(c session.Close) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing != nil {
		return
	}
	r.closing = &c
	r.guard = time.AfterFunc(goodbyeGrace, func() { _ = r.caller.Conn.Close() })
}

// finish takes the session out of everything it was in, and says why it ended.
func (r *runner) finish(cause error) error {
	r.unwatch()
	r.service.sessions.remove(r)
	closing := r.closed()
	r.release(closing)
	return r.verdict(closing, cause)
}

// release gives the Lease up: at once, or, when the connection broke without a
// word from either side, after the agent has had time to come back, whose new
// session then has written the Lease.
func (r *runner) release(closing session.Close) {
	lastSeen, lease := time.Unix(0, r.received.Load()), r.hold.Lease
	lease.GiveUp(lastSeen)
	linger := time.Duration(0)
	if closing.Reason == "" && !r.left.Load() {
		linger = r.service.cfg.Gate.Heartbeat(r.cluster) / 2
	}
	log, cluster, id := r.service.cfg.Log, r.cluster, r.id
	r.service.lingering.after(linger, id, func() { // keeps nothing of r
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout) // the stream is over
		defer cancel()
		if err := lease.Release(ctx, lastSeen); err != nil {
			log.Warn("the session's Lease was not released; it counts as lost when this replica's ends", "cluster", cluster, "session", id, "error", err)
		}
	})
}

// closed is why the session ended; nothing can change it afterwards. The
// connection may have another stream by now, so nothing may cut it any more.
func (r *runner) closed() session.Close {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing == nil {
		r.closing = &session.Close{Message: "the connection was lost"}
	}
	if r.guard != nil {
		r.guard.Stop()
	}
	return *r.closing
}

// verdict logs the end and makes the stream's status of it.
func (r *runner) verdict(closing session.Close, cause error) error {
	label := closing.Reason
	if label == "" {
		label = endByAgent
	}
	r.service.metrics.ends.WithLabelValues(label).Inc()
	attrs := []any{"reason", label, "message", closing.Message, "duration", time.Since(r.started)}
	if cause != nil {
		attrs = append(attrs, "cause", cause)
	}
	r.log().Info("session ended", attrs...)
	if closing.Reason == "" {
		return nil
	}
	return rpcerr.Refusal(closing.Reason, closing.Message, closing.RetryAfter, nil)
}

// endByAgent is the reason, in metrics and logs, when the hub had none.
const endByAgent = "DISCONNECTED"
