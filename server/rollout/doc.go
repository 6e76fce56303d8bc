// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rollout decides which clusters get the current content of a
// ManifestWorkReplicaSet now, which wait, and for what: the strategies All,
// Progressive and ProgressivePerGroup of OCM's API (MH-16 to MH-24).
//
// A strategy, the clusters by decision group, how far each is, and the time come
// in; a Plan goes out. It is a function of these alone: what has begun is known
// from the clusters, so that nothing is lost when its caller restarts. It never
// takes content back, and knows neither works nor where its input is from.
package rollout
