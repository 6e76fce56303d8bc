// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// Why a decision is not applied.
var (
	// ErrGone: there is no such Placement any more. Forget it.
	ErrGone = errors.New("the placement is gone")
	// ErrNotYours: the Placement names another scheduler.
	ErrNotYours = errors.New("the placement is decided by another scheduler")
	// ErrFrozen: its annotation says that no decisions are to change.
	ErrFrozen = errors.New("scheduling of the placement is disabled")
	// ErrFenced: a later term of the same scheduler has decided. Take a new one.
	ErrFenced = errors.New("a later term of the scheduler has decided on the placement")
	// ErrStale: the Placement has changed since it was looked at; see StaleError.
	ErrStale = errors.New("the decision is for another generation of the placement")
	// ErrInvalid: it can never be applied as it is.
	ErrInvalid = errors.New("invalid")
	// ErrConflict: somebody else writes at the same time, or the reader lags. Look
	// again and repeat.
	ErrConflict = errors.New("the placement or its decisions are being written by somebody else")
)

// StaleError is an ErrStale with what differs.
type StaleError struct {
	Placement         string
	Observed, Current int64
}

// Error implements error.
func (e *StaleError) Error() string {
	return fmt.Sprintf("placement %s has generation %d, and the decision is for %d: %v", e.Placement, e.Current, e.Observed, ErrStale)
}

// Unwrap makes it an ErrStale.
func (*StaleError) Unwrap() error { return ErrStale }

// stale is the error for a generation that differs. One that is ahead of the
// reader is a matter of time.
func stale(d Decision, placement *clusterv1beta1.Placement) error {
	if d.ObservedGeneration > placement.Generation {
		return fmt.Errorf("placement %s has generation %d as far as this replica knows, and the decision is for %d: %w",
			d.Placement, placement.Generation, d.ObservedGeneration, ErrConflict)
	}
	return &StaleError{Placement: d.Placement.String(), Observed: d.ObservedGeneration, Current: placement.Generation}
}

// invalidError is an ErrInvalid whose text is only what is wrong.
type invalidError string

// Error implements error.
func (e invalidError) Error() string { return string(e) }

// Unwrap makes it an ErrInvalid.
func (invalidError) Unwrap() error { return ErrInvalid }

func invalid(format string, args ...any) error { return invalidError(fmt.Sprintf(format, args...)) }

// IsInvalid says whether an error is an ErrInvalid.
func IsInvalid(err error) bool { return errors.Is(err, ErrInvalid) }

// settle tells what a failed write means.
func settle(placement *clusterv1beta1.Placement, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return fmt.Errorf("namespace %q is being deleted: %w", placement.Namespace, ErrGone)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return fmt.Errorf("placement %s/%s: %w: %w", placement.Namespace, placement.Name, ErrConflict, err)
	}
	return fmt.Errorf("writing the decisions of placement %s/%s: %w", placement.Namespace, placement.Name, err)
}
