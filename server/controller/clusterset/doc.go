// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clusterset keeps ManagedClusterSets on the hub (RC-44 to RC-54): how
// many clusters each has, the sets default and global, whether bindings have a
// set, and which namespaces a cluster is to have because of its sets.
//
// ManagedClusters, sets and bindings come in from the manager's cache; statuses
// and the two sets go out, and nothing is written without a change. It knows
// neither sessions nor what the spoke does with its namespaces.
package clusterset
