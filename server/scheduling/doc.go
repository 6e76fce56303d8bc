// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scheduling chooses the clusters of Placements and says why.
//
// Objects come in one by one (clusters, sets, bindings, scores, decisions and
// placements, as watches deliver them) and are kept in a World, which knows what
// each of them can change: Dirty names the placements to decide anew, Decide
// chooses, Explain says of every cluster why it is or is not chosen.
//
// Nothing here knows an apiserver, a clock or a goroutine. Whoever holds a World
// feeds it, tells it the time, and writes down what it decides. The order in
// which objects come in changes nothing.
package scheduling
