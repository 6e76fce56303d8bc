// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package failpoint ends the process with SIGKILL at a named place, so that
// tests can see what a crash there leaves behind. Only a build with the tag
// faultinject does that, when its environment says so; in every other build a
// place costs nothing. In: the places that the code passes. Out: nothing. It
// knows nothing of what is done there.
package failpoint

// Point is a place in the agent.
type Point string

// The points. Each is passed before the thing is done and after it, and the
// store's at each step of a write to files; Receive is passed once.
const (
	// Receive is a frame with objects, read and not worked off.
	Receive Point = "receive"
	// Store is a write of what was received.
	Store Point = "store"
	// Ack is the sending of what became of objects.
	Ack Point = "ack"
	// Apply is a write of an object of a work.
	Apply Point = "apply"
	// Prune is the removal of an object, or of its owner, that the inventory still
	// lists.
	Prune Point = "prune"
	// Inventory is a write of an AppliedManifestWork.
	Inventory Point = "inventory"
	// Status is the sending of statuses.
	Status Point = "status"
	// Renew is the way of a new certificate: before it is asked for, with the
	// answer there, and stored but not in use.
	Renew Point = "renew"
)
