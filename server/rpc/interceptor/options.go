// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package interceptor

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"fairlead.dev/fairlead/server/rpc/authz"
)

const (
	// streamsPerConnection: a session, a renewal, an add-on or two; more is abuse (T57).
	streamsPerConnection = 8
	// window bounds what one stream or connection can make the hub buffer, and
	// static windows spare a ping for each message.
	window = 64 << 10
	// maxFrame bounds one message from an agent: a frame of 256 KiB and some slack.
	maxFrame = 320 << 10
	// maxRequest bounds one message from a person: a work of the highest
	// --manifest-limit, as JSON.
	maxRequest = 2 << 20
	// maxHeaders bounds a call's metadata; a bearer token may take 8 KiB of it.
	maxHeaders = 16 << 10
)

// TransportOptions are the server options that decide memory and liveness of
// connections; each is measured in PERFORMANCE §2 and §5. No compressor is
// registered anywhere in the hub (B22).
func TransportOptions(listener authz.Listener) []grpc.ServerOption {
	maxReceive := maxFrame
	if listener == authz.AdminListener {
		maxReceive = maxRequest
	}
	return []grpc.ServerOption{
		grpc.ReadBufferSize(0), // crypto/tls has read a whole record already: 16 KiB less per connection
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.MaxConcurrentStreams(streamsPerConnection),
		grpc.MaxRecvMsgSize(maxReceive),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTimeout + 5*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}
