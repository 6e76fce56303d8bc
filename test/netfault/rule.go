// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package netfault

import "time"

// Direction is where bytes go.
type Direction int

// The directions: up is from the side that dialled to the server.
const (
	Up Direction = iota
	Down
)

// Rule is how all connections are treated. The zero value passes everything on
// at once. At most 64 KiB are on their way in each direction of a connection.
type Rule struct {
	// Delay is how long each byte is on its way, in each direction.
	Delay time.Duration
	// Rate is the bytes per second of each direction, by Direction, for each
	// connection; 0 stands for no limit.
	Rate [2]int
	// Drop loses every byte without a word while connections stay up, and new
	// ones are taken without ever being answered: a half-open network.
	Drop bool
	// Stall reads nothing, so that senders block once the buffers between are
	// full: a peer with a window of zero. Nothing is lost.
	Stall bool
	// Refuse resets new connections at once.
	Refuse bool
	// Cut resets a connection when that many bytes, by Direction, have passed in
	// it; 0 stands for never. Bytes that passed before the rule count.
	Cut [2]int64
	// SwallowPing takes HTTP/2 PING frames out of both directions. Only for a
	// proxy with Config.TLS.
	SwallowPing bool
}

// chunk is how much is passed on at once, so that a rate is kept smoothly.
func (r Rule) chunk(way Direction) int {
	if rate := r.Rate[way]; rate > 0 {
		return min(max(rate/20, 1), maxChunk)
	}
	return maxChunk
}

// takes is how long n bytes need at the rule's rate.
func (r Rule) takes(way Direction, n int) time.Duration {
	rate := r.Rate[way]
	if rate <= 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(rate)
}
