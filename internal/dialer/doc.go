// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dialer is an agent's way to the hub: TCP, or a tunnel through an HTTP
// or HTTPS proxy, and in it TLS that ends at the hub and nowhere else. In: an
// endpoint, a tls.Config, and which proxy to take. Out: options for gRPC, and,
// when there is no connection, an error that says which hop failed and what to
// do about it; gRPC itself keeps only a text.
//
// gRPC's own support for proxies is not used: it knows no https:// proxies, no
// authorities of their own, no proxy but that of the environment, and hands an
// answer such as 407 on as a quoted dump.
//
// The package knows nothing of join tokens, sessions or messages. A proxy sees
// the name of the endpoint and bytes of TLS, no more.
package dialer
