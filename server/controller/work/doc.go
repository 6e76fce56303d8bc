// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package work ends completed ManifestWorks on the hub: the leader deletes a work
// so many seconds after it was complete as its spec says (MH-01, MH-02).
//
// There are too many works for a cache of this package's own: it is told which
// ones may be due, and reads each from the apiserver before it decides. It
// deletes exactly the state that it has read, and knows nothing of sessions.
package work
