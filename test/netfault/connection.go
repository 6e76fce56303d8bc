// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package netfault

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxChunk and queued bound what is on its way: together 64 KiB.
	maxChunk = 16 << 10
	queued   = 3
	// socketBuffer keeps the kernel from hiding a slow or stalled link behind
	// buffers of megabytes.
	socketBuffer = 32 << 10
)

// connection is one client and its connection to the target.
type connection struct {
	proxy  *Proxy
	client net.Conn

	mu     sync.Mutex
	target net.Conn // nil until dialled
	ended  bool
	done   chan struct{} // closed by end

	lost atomic.Bool // bytes were dropped
}

// end closes both sides; the first call counts.
func (c *connection) end(reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	close(c.done)
	for _, conn := range []net.Conn{c.client, c.target} {
		shut(conn, reset)
	}
}

func shut(conn net.Conn, reset bool) {
	if conn == nil {
		return
	}
	raw := conn
	if secure, ok := conn.(*tls.Conn); ok {
		raw = secure.NetConn() // no close_notify: a cut comes without a word
	}
	if tcp, ok := raw.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
}

// forward dials the target and passes bytes on until one side ends.
func (c *connection) forward(address string) {
	defer c.end(true)
	target, err := c.dial(address)
	if err != nil {
		return
	}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		shut(target, true)
		return
	}
	c.target = target
	c.mu.Unlock()
	client := c.client
	limitBuffers(client)
	if keys := c.proxy.keys; keys != nil {
		client, target = tls.Server(client, keys.Server), tls.Client(target, keys.Client)
	}
	var group sync.WaitGroup
	for way, ends := range [2][2]net.Conn{Up: {client, target}, Down: {target, client}} {
		p := &pipe{connection: c, way: Direction(way), from: ends[0], to: ends[1], chunks: make(chan chunk, queued)}
		if c.proxy.keys != nil {
			p.filter = &frames{preface: p.way == Up}
		}
		group.Go(p.read)
		group.Go(p.write)
	}
	group.Wait()
}

// dial reaches the target. While packets are dropped nobody is reached, and
// nobody is told.
func (c *connection) dial(address string) (net.Conn, error) {
	for {
		rule, changed := c.proxy.current()
		if !rule.Drop {
			break
		}
		c.lost.Store(true) // what the client says meanwhile goes nowhere
		select {
		case <-c.done:
			return nil, net.ErrClosed
		case <-changed:
		}
	}
	ctx, cancel := context.WithTimeout(c.proxy.ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		limitBuffers(conn)
	}
	return conn, err
}

func limitBuffers(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(socketBuffer)
		_ = tcp.SetWriteBuffer(socketBuffer)
	}
}

// chunk is what was read at once, and when it is due at the other end.
type chunk struct {
	bytes []byte
	due   time.Time
}

// pipe is one direction of a connection: read fills chunks, write empties them.
type pipe struct {
	*connection

	way      Direction
	from, to net.Conn
	chunks   chan chunk
	filter   *frames // nil: bytes are not looked into
	written  int64
}

// read takes bytes as they come, unless the rule says not to read; what a Read
// brings that had begun before is kept.
func (p *pipe) read() {
	defer close(p.chunks)
	for {
		if !p.readable() {
			return
		}
		buffer := make([]byte, maxChunk)
		n, err := p.from.Read(buffer)
		if n > 0 && (!p.readable() || !p.hand(buffer[:n])) {
			return
		}
		if err != nil {
			return // write ends the connection when what came before has passed
		}
	}
}

// readable waits while the rule says not to read; false means that the
// connection has ended.
func (p *pipe) readable() bool {
	for {
		rule, changed := p.proxy.current()
		if !rule.Stall {
			return true
		}
		select {
		case <-p.done:
			return false
		case <-changed:
		}
	}
}

func (p *pipe) hand(bytes []byte) bool {
	rule, _ := p.proxy.current()
	if p.filter != nil {
		bytes = p.filter.pass(bytes, rule.SwallowPing)
	}
	select {
	case <-p.done:
		return false
	case p.chunks <- chunk{bytes: bytes, due: time.Now().Add(rule.Delay)}:
		return true
	}
}

// write passes chunks on when they are due, at the rule's rate.
func (p *pipe) write() {
	defer p.leave()
	for c := range p.chunks {
		if !p.wait(time.Until(c.due)) {
			return
		}
		for len(c.bytes) > 0 {
			rule, _ := p.proxy.current()
			n := min(rule.chunk(p.way), len(c.bytes))
			if !p.pass(rule, c.bytes[:n]) {
				return
			}
			c.bytes = c.bytes[n:]
		}
	}
}

// leave ends the connection after the last byte of one direction. While
// packets are dropped, so is the news of the end.
func (p *pipe) leave() {
	for {
		rule, changed := p.proxy.current()
		if !rule.Drop {
			break
		}
		p.lost.Store(true)
		select {
		case <-p.done:
			return
		case <-changed:
		}
	}
	p.end(false)
}

// pass writes what the rule lets through; false ends the connection.
func (p *pipe) pass(rule Rule, bytes []byte) bool {
	if rule.Drop {
		p.lost.Store(true)
		return true
	}
	cut := rule.Cut[p.way]
	whole := cut <= 0 || p.written+int64(len(bytes)) < cut
	if !whole {
		bytes = bytes[:max(0, cut-p.written)]
	}
	n, err := p.to.Write(bytes)
	p.written += int64(n)
	p.proxy.passed[p.way].Add(int64(n))
	if !whole {
		p.end(true)
		return false
	}
	return err == nil && p.wait(rule.takes(p.way, n))
}

// wait lets time pass; false means that the connection ended. A new rule ends
// the wait, so that a slow link becomes fast at once.
func (p *pipe) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	_, changed := p.proxy.current()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return false
	case <-timer.C:
	case <-changed:
	}
	return true
}
