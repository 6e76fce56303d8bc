// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package netfault is a TCP proxy that makes a network misbehave as a test asks:
// delay, a limit of bytes per second, silent loss (half-open connections), a
// peer that does not read, cuts at the n-th byte, resets, refusals. In: an
// address to forward to, and a Rule that may change at any time. Out: an address
// to dial, and counts of what passed.
//
// It needs no keys: TLS passes through it as it is, so it can neither read nor
// change what is said, only when and whether it arrives. What a keyless proxy
// cannot do is to tell frames apart. A proxy that is given keys (Config.TLS)
// ends TLS on both sides and can swallow HTTP/2 PING frames, as some load
// balancers do; the peer then sees the proxy's certificate and the server the
// proxy's.
//
// It stands above TCP, so it can lose a tail of a stream but no packet in the
// middle, does not reorder bytes, and a sender's kernel sees its bytes
// acknowledged even while Drop loses them. A connection that has lost bytes is
// beyond repair: it is reset when the rule that lost them ends.
//
// The package knows nothing of the hub, the agent or their protocol.
package netfault
