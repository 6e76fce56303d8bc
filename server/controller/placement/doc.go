// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package placement runs the hub's own scheduler of Placements (PL-01 to PL-63).
//
// Clusters, sets, bindings, scores, placements and decisions come in from the
// manager's cache and are kept in a scheduling.World, which chooses; what it chose
// goes out through decide.Submit, and events say so. Nothing is decided before all
// of them have been seen. A Placement that names an external scheduler is left to
// that one.
package placement
