// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet is many agents in one process: each is the real agent/link with
// its own certificate and its own mTLS connection, over a store in memory. What
// an agent does with what it stored is not here; its statuses are made up.
package fleet

import "time"

// Setup is what the agents of a fleet need to know. The parent writes it to a
// file, since it has private keys in it.
type Setup struct {
	Address      string
	HubID        string
	Roots        []byte // PEM
	TrustVersion uint64
	Agents       []Identity
}

// Identity is one agent: its cluster, certificate and key in PEM.
type Identity struct {
	Cluster     string
	Certificate []byte
	Key         []byte
}

// Counts are what has happened so far.
type Counts struct {
	Welcomed, Synced, Stored, Deleted int
}

// Arrival is an object that an agent stored.
type Arrival struct {
	Cluster, Name string
	Generation    int64
	At            time.Time
}

// Report asks every agent to report statuses of each object that it holds whose
// name begins with Prefix: First to Last, one transition of all agents after the
// other. Their conditions say the transition.
type Report struct {
	Prefix      string
	First, Last int
}
