// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sigdecision shows decisions to tools that know PlacementDecisions of
// multicluster.x-k8s.io (KEP-5313, as sigs.k8s.io/cluster-inventory-api publishes
// them) and not OCM's: one of theirs for each of ours, under the same name (PL-63).
//
// OCM's PlacementDecisions come in from the manager's cache; the others go out, and
// nothing is written without a change. Those of other schedulers are left alone.
package sigdecision
