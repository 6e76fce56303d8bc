// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package check is the independent witness of tests that break things: it reads
// both apiservers, believes no process of ours, and says for every key what does
// not fit.
//
// A Journal watches a spoke's ConfigMaps and a History a hub's ManifestWorks;
// both write down every creation, change and deletion with its UID. Compare
// reads both sides as they are (hub spec → spoke object, spoke state → hub
// status) and counts what is missing or extra; Judge holds journal and history
// against each other and finds deletes that nobody asked for, and content that
// came back after it was deleted or replaced. A test passes when they find
// nothing, not when a log is clean.
//
// In: clients of both apiservers, and works made by Work, whose manifests it
// can tell apart. Out: Findings, one a line. It knows nothing of sessions,
// agents or the wire.
package check
