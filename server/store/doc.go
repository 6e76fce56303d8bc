// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store is the hub's apiserver as the RPC side sees it. It keeps the
// one compact index of all ManifestWorks (raw LIST and WATCH, never decoded),
// writes statuses and finalizers for agents, says which session owns a cluster
// (Leases, by compare-and-swap), and watches what admission depends on
// (ManagedClusters and ClusterEnrollments).
//
// In come rest configs of two identities: the hub's own, which reads, and the
// narrow one that writes for agents. Out go views of the index, marks of what
// changed, results of writes and callbacks on lost sessions. Every write for an
// agent goes to the namespace of an identity.Scope, directly or in the Grant
// that Sessions.Take made from one.
//
// It knows nothing of gRPC, of sessions' inner state or of controllers.
package store
