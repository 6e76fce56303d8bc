// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cleanup empties the namespace of a cluster that leaves the hub: what is
// in it goes in an order, one batch after the other, and only then the
// ManagedCluster may go (RC-66 to RC-70).
//
// ManagedClusters come in from the shared cache; the objects to delete are read
// by their metadata from the apiserver itself, and only while a cluster leaves.
// Deletes, a condition, events and a finalizer go out. That an object is deleted
// on the spoke first is the matter of that object's own finalizer; this package
// waits for it and knows neither sessions nor what works contain.
//
// Absence of a ManagedCluster alone never deletes: its deletionTimestamp, or the
// apiserver's word that it was deleted, was seen, and is written down as a label
// of the namespace so that it outlives this process.
package cleanup
