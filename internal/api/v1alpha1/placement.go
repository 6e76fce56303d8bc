// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Annotations of Placements and PlacementDecisions.
const (
	// AnnotationScheduler is put onto a Placement by its author and names the
	// external scheduler that decides it. Absent or empty, the hub's own does.
	AnnotationScheduler = "fairlead.dev/scheduler"
	// AnnotationDecision is on the first PlacementDecision of a Placement that an
	// external scheduler decided: the answer that its last request got, as JSON,
	// so that a repeat of the request gets the same one.
	AnnotationDecision = "fairlead.dev/decision"
	// AnnotationTerm is on every PlacementDecision of such a Placement: name and
	// term of the scheduler that wrote it, "name:7". It is written before anything
	// else of a new term, so that no write of an older one succeeds any more.
	AnnotationTerm = "fairlead.dev/term"
)
