// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package drift watches the objects that works applied and says which works to look at when one of them changes. What to watch
// comes in, owners' names and resourceVersions go out. It must not know what a work is, nor read more of an object than its
// metadata.
//
// # What is watched
//
// Nothing wider than what was applied, as long as that takes few watches. Up to narrow objects of one resource in one namespace
// are watched one by one, by a field selector on the name. Beyond that the namespace's metadata is watched in one request, and
// beyond broad watches of one resource that of all namespaces. All of it that is not ours is forgotten on arrival, and of a list
// nothing but names and versions is gathered. Where RBAC forbids the wider watch, narrower ones are kept, down to single objects,
// which a role with resourceNames can allow; where that is forbidden too, or more than Config.Limit watches would be needed,
// Version says that nothing is known, and the caller polls. Watches are tried again by client-go's reflector with backoff, so a
// right granted later is found.
package drift
