// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lease says of every accepted cluster whether it is available and how
// its agent's clock is: the conditions ManagedClusterConditionAvailable and
// ManagedClusterConditionClockSynced, and the Lease managed-cluster-lease.
//
// It reads nothing but Leases of the hub's own namespace: who holds the session
// of a cluster, and which hub replicas are alive (PROTOCOL decision 11). A
// session that a live replica holds means that something was received from the
// agent in time; how, is the session's business and unknown here. Time is the
// hub's own; no agent's clock counts.
//
// availability.go decides and is pure; replicas.go watches the replicas and the
// contact to the apiserver; flaps.go damps clusters that come and go; clock.go
// judges the agent's clock; controller.go does one cluster; clusterlease.go keeps
// OCM's Lease. An idle cluster costs one write an hour and no timer besides.
package lease
