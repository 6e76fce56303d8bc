// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package interceptor

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// conn counts what the kernel takes, so that a watchdog can tell a slow link
// from a dead one, and tells its listener when it is closed. Being no
// *net.TCPConn it also keeps grpc from setting TCP_USER_TIMEOUT, with which the
// kernel would cut a slow reader before the watchdog can say why.
type conn struct {
	net.Conn
	written atomic.Uint64
	place   *place // while a handshake is in progress
	once    sync.Once
	closed  func()
}

// Read gives up the place among the handshakes while it waits for the peer, so
// that a slow one costs nobody else theirs.
func (c *conn) Read(b []byte) (int, error) {
	if c.place == nil {
		return c.Conn.Read(b)
	}
	c.place.release()
	n, err := c.Conn.Read(b)
	if waited := c.place.acquire(); waited != nil && err == nil {
		err = waited
	}
	return n, err
}

// Write counts also what a failed write has got through.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(uint64(n)) //nolint:gosec // never negative
	return n, err
}

// Written implements authz.Conn.
func (c *conn) Written() uint64 { return c.written.Load() }

// Close may be called more than once.
func (c *conn) Close() error {
	c.once.Do(func() {
		if c.closed != nil {
			c.closed()
		}
	})
	return c.Conn.Close()
}

// Listen wraps a listener so that at most perSource connections of one IP
// address are open; more are closed at once, before any TLS (0: no limit). Every
// listener of the hub is wrapped, also without a limit.
func Listen(inner net.Listener, perSource int, registry prometheus.Registerer) net.Listener {
	l := &listener{Listener: inner, limit: perSource, open: map[string]int{}}
	l.refused = refusals(registry).WithLabelValues("connections_per_source")
	return l
}

type listener struct {
	net.Listener
	limit   int
	refused prometheus.Counter
	mu      sync.Mutex
	open    map[string]int
}

// Accept closes connections over the limit and waits for the next.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(raw.RemoteAddr())
		if l.enter(source) {
			return &conn{Conn: raw, closed: func() { l.leave(source) }}, nil
		}
		l.refused.Inc()
		_ = raw.Close()
	}
}

func (l *listener) enter(source string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit > 0 && l.open[source] >= l.limit {
		return false
	}
	l.open[source]++
	return true
}

func (l *listener) leave(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[source]--
	if l.open[source] <= 0 {
		delete(l.open, source)
	}
}

// sourceOf is the address without its port.
func sourceOf(addr net.Addr) string {
	if host, _, err := net.SplitHostPort(addr.String()); err == nil {
		return host
	}
	return addr.String()
}
