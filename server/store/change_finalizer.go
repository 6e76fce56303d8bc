// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// finalized takes our finalizer off a deleting work: the spoke is clean.
type finalized struct{}

func (finalized) gone() Result { return Result{Outcome: Persisted} }

func (finalized) look(_ *StatusWriter, _ *job, t *target) step {
	switch {
	case !t.deleting && !t.live:
		return step{read: true} // the index may be behind
	case !t.deleting:
		return settle(Result{Outcome: Superseded, Reason: reason.Conflict, Message: "nobody asked for this object to be deleted"})
	case !t.finalizer:
		return settle(Result{Outcome: Persisted})
	}
	return step{}
}

func (finalized) patch(_ *job, t *target) (string, map[string]any, error) {
	return "", finalizersPatch(t.others()), nil
}

func (finalized) wrote(*job, *target) bool { return false }

// addFinalizer puts our finalizer on a work.
type addFinalizer struct{}

func (addFinalizer) gone() Result {
	return Result{Outcome: StaleUID, Message: "the hub has no object of that UID any more"}
}

func (addFinalizer) look(_ *StatusWriter, _ *job, t *target) step {
	switch {
	case t.finalizer:
		return settle(Result{Outcome: Persisted})
	case t.deleting:
		return settle(Result{Outcome: Superseded, Message: "the object is being deleted"})
	}
	return step{}
}

func (addFinalizer) patch(_ *job, t *target) (string, map[string]any, error) {
	return "", finalizersPatch(append(slices.Clip(t.others()), identity.ManifestWorkFinalizer)), nil
}

func (addFinalizer) wrote(*job, *target) bool { return false }

// finalizersPatch replaces the whole list, which the resourceVersion in the
// patch makes safe.
func finalizersPatch(all []string) map[string]any {
	var list any // null takes the field away
	if len(all) > 0 {
		list = all
	}
	return map[string]any{"metadata": map[string]any{"finalizers": list}}
}
