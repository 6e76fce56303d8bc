// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package health says of a live object whether it is still on its way to what its spec asks for (Progressing) and whether it
// failed (Degraded), in terms of its own status. An object comes in, conditions come out; kinds that have no such state give
// none. It is pure: it knows nothing of works, rules or other objects.
//
// Degraded is only what a controller of Kubernetes itself calls a failure; what merely takes long is Progressing. What failed is
// Progressing, too: whoever waits for the one to end (OCM's rollouts) must not take the other for success. Messages have no
// counts, so that one rollout is a few changes of a status, not one for each Pod.
package health
