// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apply makes one object on the spoke be what its manifest says, and writes only if it is not. A manifest and how it is
// to be applied come in; the live object and what was done come out. It must not know works, inventories or statuses.
//
// # How it writes, and why
//
// Every strategy that writes does so by server-side apply, the default strategy Update too, there with the field manager
// "work-agent" and force. The apiserver then does what an agent would do badly: it knows the schema, merges lists by their keys,
// applies defaults, and takes away the fields that an earlier manifest had and this one has not. What we applied is written in
// the object's managedFields, so it survives a restart of the agent, a lost disk and a change of agent, and no annotation of
// ours is put on anybody's object. Fields that others set (a sidecar, an autoscaled replica count, annotations, finalizers)
// stay, except in kinds whose content is nobody else's business: in ConfigMaps, Secrets and custom resources, fields that
// others added beside ours are removed, as in OCM (see strict.go).
//
// # How it knows that nothing is to be written
//
// A dry-run is a request like any other, so the comparison is local. An object is as it should be if every field of the
// manifest is in it with the same value (compare.go, after bringing built-in kinds into the apiserver's own form), if we own no
// field that the manifest does not have any more (managed.go), and if our owner reference is right (owner.go). Where a webhook
// or the apiserver keeps a value that differs from the manifest for good, the write changes nothing; the content that resulted
// is then remembered as settled (Result.Settled), and not fought over again until it or the manifest changes.
//
// # What it ignores
//
// With ignoreFields an object is compared and applied without what is to be ignored (ignored.go). Leaving a field out of an
// apply deletes it if nobody else owns it, so what had to be sent, at creation or because the hub's manifest changed, is taken
// out of our managedFields right after: the value stays, and others may apply the field without a conflict.
//
// # What it does not do
//
// A field that the schema does not have, and two entries of one list with the same key, are refused by server-side apply with a
// message that names them, where an update would have dropped or kept them silently.
package apply
