// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/session"
)

const (
	// restoreRetry is how often a restore is checked again while the apiserver
	// does not answer.
	restoreRetry = 5 * time.Second
	// shownKeys is how many keys of a mismatch are logged.
	shownKeys = 10
)

// carry does what the core wants done. No lock is held; nothing here waits for
// an apiserver.
func (r *runner) carry(effects []session.Effect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case session.ReadQuorum:
			r.service.Background("quorum read", func() { r.readQuorum(e) })
		case session.EnsureFinalizer:
			r.works.EnsureFinalizer(e.Key, e.UID, func(a Answer) { r.finalizerDone(e, a) })
		case session.PersistStatus:
			r.persist(e)
		case session.CheckRestore:
			r.service.Background("restore check", func() { r.checkRestore(e.Mark) })
		case session.ReportCluster:
			r.report(e.Report)
		case session.Undelivered:
			r.undelivered(e)
		case session.Close:
			r.close(e)
		default:
			r.note(effect)
		}
	}
}

// note is for effects that are only counted or logged.
func (r *runner) note(effect session.Effect) {
	m := r.service.metrics
	switch e := effect.(type) {
	case session.Stored:
		for _, o := range e.Objects {
			m.stored(o)
			if !o.Delete {
				r.works.Delivered(o.Key, o.Revision.UID, "", "")
			}
		}
	case session.Retried:
		m.nacks.WithLabelValues("RETRY").Inc()
		r.log().Debug("the agent could not take an object now", "key", e.Key, "reason", e.Error.GetReason(), "message", e.Error.GetMessage())
	case session.CountMismatch:
		m.mismatches.Inc()
		shown := e.Keys[:min(len(e.Keys), shownKeys)]
		r.log().Error("anti-entropy found a difference that nothing explains; it is being mended", "count", len(e.Keys), "keys", shown)
	case session.UnprovenMark:
		r.log().Warn("the agent shows a high-water mark that this hub did not make", "mark", e.Mark.ResourceVersion)
	case session.ReportEvents:
		m.events.Add(float64(len(e.Events)))
	case session.Unsupported:
		m.unsupported.Inc()
	}
}

func (r *runner) readQuorum(read session.ReadQuorum) {
	answer := session.QuorumAnswer{Failed: true}
	if !nameable(read.Key) {
		r.step(session.QuorumAnswer{Read: read, Found: true}) // nothing is ever said to be gone that was not looked for
		return
	}
	if r.service.quorum.Acquire(r.ctx, 1) == nil {
		got, err := r.works.Read(r.ctx, read.Key)
		r.service.quorum.Release(1)
		if err == nil {
			answer = got
		} else if r.ctx.Err() == nil {
			r.log().Warn("reading a work from the apiserver failed; it is tried again", "key", read.Key, "error", err)
		}
	}
	answer.Read = read
	r.step(answer)
}

func (r *runner) checkRestore(mark wire.HighWater) {
	for {
		restored, err := r.service.cfg.Gate.Restored(r.ctx, mark)
		if err == nil {
			r.step(session.RestoreAnswer{Restored: restored})
			return
		}
		r.log().Warn("whether the hub was restored is not known yet; deletes wait", "mark", mark.ResourceVersion, "error", err)
		select {
		case <-r.ctx.Done():
			return
		case <-time.After(restoreRetry):
		}
	}
}

func (r *runner) finalizerDone(asked session.EnsureFinalizer, a Answer) {
	if a.Fenced {
		r.fenced()
		return
	}
	r.step(session.FinalizerDone{Key: asked.Key, UID: asked.UID, Failed: a.Code == agentv1.StatusCode_STATUS_CODE_RETRY})
}

func (r *runner) fenced() {
	r.end(reason.Fenced, "another session of this cluster has taken over", 0)
}

// persist decodes a status and hands it to the writer; the answer comes back
// from there.
func (r *runner) persist(e session.PersistStatus) {
	begun := time.Now()
	done := func(a Answer) {
		if a.Fenced {
			r.fenced()
			return
		}
		r.service.metrics.persisted(a, time.Since(begun))
		var info *agentv1.ErrorInfo
		if a.Reason != "" {
			info = &agentv1.ErrorInfo{Reason: a.Reason, Message: wire.Truncate(a.Message)}
		}
		r.step(session.StatusDone{Key: e.Key, UID: e.UID, Seq: e.Seq, Code: a.Code, Error: info, RetryAfter: a.RetryAfter})
	}
	if !nameable(e.Key) {
		done(Answer{Code: agentv1.StatusCode_STATUS_CODE_INVALID, Reason: reason.InvalidName, Message: "no object of the hub can have that name"})
		return
	}
	decoded, err := r.service.decode(e)
	if err != nil {
		done(Answer{Code: agentv1.StatusCode_STATUS_CODE_INVALID, Reason: reason.Undecodable, Message: err.Error()})
		return
	}
	r.works.PutStatus(Status{
		Key: e.Key, UID: e.UID, ObservedGeneration: e.ObservedGeneration, ObservedDigest: e.ObservedDigest,
		JSON: decoded, Finalized: e.Finalized,
	}, done)
}

func (s *Service) decode(e session.PersistStatus) ([]byte, error) {
	switch e.Encoding {
	case agentv1.Encoding_ENCODING_ZSTD:
		return s.codec.Decompress(e.Encoded, e.Size)
	case agentv1.Encoding_ENCODING_IDENTITY, agentv1.Encoding_ENCODING_UNSPECIFIED:
		if uint64(len(e.Encoded)) != e.Size {
			return nil, fmt.Errorf("a status of %d bytes was announced with %d", len(e.Encoded), e.Size)
		}
		return e.Encoded, nil
	}
	return nil, fmt.Errorf("encoding %d is not known", e.Encoding)
}

func (r *runner) undelivered(e session.Undelivered) {
	label := "UNDELIVERABLE"
	if e.Rejected {
		label = "REJECTED"
	}
	r.service.metrics.nacks.WithLabelValues(label).Inc()
	r.log().Info("a work does not reach its cluster", "key", e.Key, "generation", e.Revision.Generation,
		"by", label, "reason", e.Error.GetReason(), "message", wire.Truncate(e.Error.GetMessage()))
	r.works.Delivered(e.Key, e.Revision.UID, orElse(e.Error.GetReason(), label), wire.Truncate(inFields(e.Error)))
}

// inFields is an error's message after the fields that it is about.
func inFields(e *agentv1.ErrorInfo) string {
	if len(e.GetFieldPaths()) == 0 {
		return e.GetMessage()
	}
	return strings.Join(e.GetFieldPaths(), ", ") + ": " + e.GetMessage()
}

// nameable tells whether a Kubernetes object can have the key's name. Keys come
// from agents, and names end up in paths: one with ".." or "/" in it would name
// another cluster's object (T49).
func nameable(key wire.Key) bool { return len(validation.IsDNS1123Subdomain(key.Name)) == 0 }

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
