// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hostile calls gRPC methods as one who wants to do harm: every method
// that a server has, found by reflection, with messages of every shape, sent as
// the bytes that they are. So a new method or field is attacked without a line
// written for it. In come a connection and, for fuzzing, bytes that decide what
// a message looks like; out comes what the server said, and whether that is an
// answer that a server of ours may give. It knows no handler.
package hostile
