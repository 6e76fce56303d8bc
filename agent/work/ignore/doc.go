// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ignore finds the fields that a work wants to be left alone on the spoke: those of updateStrategy
// serverSideApply.ignoreFields. Rules and a manifest come in, the places of fields in that manifest come out, or an Error that
// names the rule. It must not know the spoke: what is ignored is decided by the manifest alone.
//
// Of the three languages jq has the machine: a JSONPath is translated into it. A jq expression of a stranger runs in the
// agent, which all works share, so it may read, select and compare, for a second, and has nothing to grow memory with
// (see jq.go).
package ignore
