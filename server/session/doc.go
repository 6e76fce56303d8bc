// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package session is the hub's half of one agent session, without the stream:
// what to send next to one agent, and what its frames mean.
//
// Values come in (a hello, a frame, a mark of the works index, an answer, the
// time) and values go out: messages, pulled one at a time by the one goroutine
// that owns the stream, and effects, which the caller carries out. Nothing here
// knows a network, an apiserver, a clock or a goroutine, so that every
// conversation can be replayed; testdata/stories has some.
//
// State is kept per key and only for keys that are on their way. A session that
// is in sync holds none: the works index (Source) does.
package session
