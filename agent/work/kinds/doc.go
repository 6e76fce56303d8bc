// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kinds knows the kinds of the spoke: in which order they are applied, by which resource they are served, and what
// the apiserver's own normal form of a built-in kind is. Group, version and kind come in, a resource comes out. It must not
// know works, statuses or anything that writes.
package kinds
