// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rule makes conditions out of a live object by the conditionRules of a work (CEL, and the well-known ones). Rules and an
// object come in, conditions come out. It knows nothing of works and makes no requests.
//
// Rules are written by whoever may write works, and run in the agent that all works share. So what one may cost is bounded, in
// time and in memory, whatever it says: see limits.go.
package rule
