// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package inventory keeps, in an AppliedManifestWork on the spoke, what each work applied, and takes away what is in there and
// is not wanted any more. Names of works and lists of resources come in; the AppliedManifestWork as it is and what is left come
// out. It must not know manifests or statuses.
//
// The inventory is written before an object is applied, without a UID, and again after, with it. So at every moment all that a
// work may have made is listed, whenever the agent dies. That an object is really ours is proved by its owner reference, which
// is on it from its first moment: an object without it is never deleted.
package inventory
