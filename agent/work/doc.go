// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package work reconciles ManifestWorks on the spoke: it applies their manifests, keeps them as they are to be, takes away what
// is not wanted any more, and says what came of it. Names of works come in, by Enqueue and by watching what was applied; reports
// go out to a Reporter. What is wanted is asked of a Source, the durable store, each time anew, so any number of changes while a
// work waits costs one pass over the newest. It must not know the hub, the connection to it, or whether there is one.
//
// # One pass
//
// A pass over one work (reconcile.go) is: read the manifests and how each is to be applied (plan.go, options.go, ignore/); ask
// whether the work's executor, if it has one, may do that (authorize.go, executor/); make the AppliedManifestWork and list in it
// what is about to be applied (inventory/); apply each manifest in the order of kinds (apply/, kinds/), writing only where the
// spoke differs; take away what is listed and not wanted any more; make the status (observe.go, feedback/, rule/, health/, condition/) and report it if it
// differs from the last report (status.go). One manifest that fails does not stop the others. Deleting a work (finalize.go) is
// the same inventory, emptied.
//
// Objects that a watch (drift/) shows to be the very ones that the last pass left are not even read. So a change of one object
// costs reading that object, and a spoke where nothing happens costs nothing but a full look every few minutes.
//
// # What it never does
//
// It deletes nothing because something is absent: not when a work is not in the Source, not when a manifest does not decode, not
// when the spoke's discovery is incomplete. What a work asks for and this version does not do is
// refused for all to see, with Applied False and a message that names it, and not half done. With an executor it applies nothing
// without a yes of the spoke's apiserver.
package work
