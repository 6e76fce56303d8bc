// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package replicaset is the controller of ManifestWorkReplicaSets (MH-03 to
// MH-26): it makes one ManifestWork in the namespace of each cluster that the
// placements of a set choose, rolls changes out as the set's strategies say, and
// counts in its status how they do.
//
// Sets, placements and their decisions come from the shared cache, works from
// whoever knows all of them; which clusters are next is for server/rollout to say.
// Creates, patches and deletes go out. What is written does not depend on the
// works being up to date: a work's name follows from its set, so that it cannot be
// made twice, and what is deleted was read from the apiserver before, as were the
// decisions that no longer choose its cluster. It knows nothing of sessions.
package replicaset
