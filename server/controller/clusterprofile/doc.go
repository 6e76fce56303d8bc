// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clusterprofile shows clusters to tools that know ClusterProfiles of
// multicluster.x-k8s.io and not OCM's kinds (RC-58 to RC-62): one for each cluster
// of the sets that are bound in a namespace.
//
// ManagedClusters, sets and bindings come in from the manager's cache;
// ClusterProfiles go out, and nothing is written without a change. Profiles of
// other cluster managers are left alone.
package clusterprofile
