// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// writeTries is how often a write is begun anew after a conflict.
	writeTries = 5
	// retryAfter is when an agent tries again if the apiserver names no time,
	// retryLong if a person has to do something first.
	retryAfter = time.Second
	retryLong  = 15 * time.Second
	// undeliveredSoon and undeliveredLate are how long the hub waits before it
	// tries again to show why a work is not delivered: the first time and at most.
	undeliveredSoon = 500 * time.Millisecond
	undeliveredLate = time.Minute
)

// target is the work to be written to, as far as it is known: from the index,
// or (live) from a quorum read, whose raw bytes are there then.
type target struct {
	record
	live bool
	raw  []byte
}

// others are the target's finalizers that are not ours.
func (t *target) others() []string {
	object := t.raw
	if object == nil {
		object = []byte(t.envelope[:t.split] + "null" + t.envelope[t.split:])
	}
	var o struct {
		Metadata struct {
			Finalizers []string `json:"finalizers"`
		} `json:"metadata"`
	}
	if json.Unmarshal(object, &o) != nil {
		return nil // cannot be: the bytes were scanned
	}
	return slices.DeleteFunc(o.Metadata.Finalizers, func(f string) bool { return f == identity.ManifestWorkFinalizer })
}

// change is one kind of write.
type change interface {
	// look says what to do about the target as it is known; it must not ask for
	// a live one when it has one.
	look(w *StatusWriter, j *job, t *target) step
	// patch is the merge patch, without metadata.uid and resourceVersion, and the
	// subresource that it goes to.
	patch(j *job, t *target) (subresource string, body map[string]any, err error)
	// wrote looks at the apiserver's answer, and says whether to look again.
	wrote(j *job, answer *target) (again bool)
	// gone is the result when the object is not there any more.
	gone() Result
}

// step is what look says.
type step struct {
	result  Result // when settled
	settled bool
	read    bool // look again at a live target
}

func settle(r Result) step { return step{result: r, settled: true} }

// errGone says that there is no object of that UID any more.
var errGone = errors.New("the object is gone")

// write does one job, in the order of PROTOCOL c7.
func (w *StatusWriter) write(ctx context.Context, j *job) Result {
	if j.tries > 0 && w.pointless(j) {
		return j.change.gone()
	}
	t, err := w.locate(ctx, j)
	for try := 0; err == nil; {
		if !w.fence.Held(j.grant) {
			return fenced()
		}
		s := j.change.look(w, j, t)
		if s.settled {
			return s.result
		}
		if s.read {
			t, err = w.read(ctx, j)
			continue
		}
		var again bool
		t, again, err = w.attempt(ctx, j, t)
		if err == nil && !again {
			return Result{Outcome: Persisted}
		}
		if apierrors.IsConflict(err) {
			t, err = w.reread(ctx, j)
		}
		if try++; try >= writeTries && err == nil {
			return Result{Outcome: Retry, Reason: reason.Conflict, Message: fmt.Sprintf("the object changed %d times while it was written", try), RetryAfter: retryAfter}
		}
	}
	return w.failed(j, err)
}

// attempt writes once. It returns the target as it is now.
func (w *StatusWriter) attempt(ctx context.Context, j *job, t *target) (now *target, again bool, err error) {
	if err := w.confirm(ctx, j.grant, t); err != nil {
		return t, false, err
	}
	subresource, body, err := j.change.patch(j, t)
	if err != nil {
		return t, false, err
	}
	metadata, ok := body["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
	}
	metadata["uid"], metadata["resourceVersion"] = t.uid, formatRV(t.resourceVersion)
	body["metadata"] = metadata
	patch, err := json.Marshal(body)
	if err != nil {
		return t, false, fmt.Errorf("making a patch: %w", err)
	}
	began := time.Now()
	raw, err := w.works.patch(ctx, j.grant.Scope().Namespace(), j.key.Name, subresource, patch)
	w.paced(time.Since(began), err)
	if err != nil {
		return t, false, err
	}
	s, err := wire.Scan(raw)
	if err != nil {
		return t, false, err
	}
	if subresource != "" || s.Finalizer { // else this has ended the object
		w.index.put(s, written, j.grant.serial())
	}
	now = liveTarget(s, raw, j.grant.serial())
	return now, j.change.wrote(j, now), nil
}

// confirm goes on only if the session owns its cluster for sure: when it has
// read or written exactly this state of the object, or the object has not
// changed since the session began, another owner cannot have written it, and the
// patch fails if one does. Else the apiserver is asked.
func (w *StatusWriter) confirm(ctx context.Context, g Grant, t *target) error {
	if t.session == g.serial() || t.resourceVersion <= g.complete {
		return nil
	}
	if err := w.fence.Check(ctx, g); err != nil {
		return err
	}
	t.session = g.serial()
	return nil
}

// paced lets the pace follow how a request went.
func (w *StatusWriter) paced(took time.Duration, err error) {
	if w.pace.note(w.clock.Now(), took, pushedBack(err)) && w.throttle != nil {
		if name := w.queue.busiest(); name != "" {
			w.throttle(name)
		}
	}
}

// pushedBack tells whether err means that the apiserver has too much to do.
func pushedBack(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || errors.Is(err, context.DeadlineExceeded)
}

// locate finds the target in the index, or reads it where the index disagrees
// with the agent on which object there is.
func (w *StatusWriter) locate(ctx context.Context, j *job) (*target, error) {
	r, ok := w.index.lookup(j.grant.Cluster(), j.key.Name)
	if !ok || r.uid != j.uid {
		return w.read(ctx, j)
	}
	return &target{record: r}, nil
}

// read is a quorum read of the target.
func (w *StatusWriter) read(ctx context.Context, j *job) (*target, error) {
	s, raw, err := w.works.read(ctx, j.grant.Scope().Namespace(), j.key.Name)
	if err != nil {
		return nil, err
	}
	if s == nil || s.UID != j.uid {
		return nil, errGone
	}
	return liveTarget(s, raw, 0), nil
}

// reread is read after a conflict: somebody else has written, so who owns the
// cluster has to be asked first.
func (w *StatusWriter) reread(ctx context.Context, j *job) (*target, error) {
	t, err := w.read(ctx, j)
	if err != nil {
		return nil, err
	}
	if err := w.fence.Check(ctx, j.grant); err != nil {
		return nil, err
	}
	t.session = j.grant.serial()
	return t, nil
}

func liveTarget(s *wire.Scanned, raw []byte, session uint64) *target {
	r := newRecord(s, nil)
	r.uid, r.session = s.UID, session
	return &target{record: *r, live: true, raw: raw}
}

func fenced() Result {
	return Result{Outcome: Fenced, Reason: reason.Fenced, Message: ErrFenced.Error()}
}

// failed is the result of a job that ended in an error.
func (w *StatusWriter) failed(j *job, err error) Result {
	switch {
	case errors.Is(err, errGone), absent(err, j.key.Name):
		return j.change.gone()
	case errors.Is(err, ErrFenced):
		return fenced()
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return Result{Outcome: Invalid, Reason: reason.InvalidArgument, Message: wire.Truncate(err.Error())}
	}
	r := Result{Outcome: Retry, Reason: reason.HubOverloaded, Message: "the hub's apiserver did not take it", RetryAfter: retryAfter + rand.N(retryAfter)} //nolint:gosec // so that agents do not come back together
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) {
		r.Reason, r.RetryAfter = reason.PermissionDenied, retryLong
		r.Message = "the hub may not write in the namespace of this cluster yet"
	}
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok && seconds > 0 {
		r.RetryAfter = max(r.RetryAfter, time.Duration(seconds)*time.Second)
	}
	w.log.Debug("a write for an agent has to be tried again", "cluster", j.grant.Cluster(), "work", j.key.Name, "error", err)
	return r
}
