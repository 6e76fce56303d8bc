// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package netfault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialTimeout bounds reaching the target, which is on the same machine.
const dialTimeout = 10 * time.Second

// Config is what New needs.
type Config struct {
	// Target is host:port of the server; empty refuses connections until
	// Proxy.Retarget names one.
	Target string
	// TLS makes the proxy end TLS; nil passes it through.
	TLS *Keys
}

// Keys are what a proxy needs to read what it passes on.
type Keys struct {
	Server *tls.Config // towards those who dial
	Client *tls.Config // towards the target
}

// Proxy listens on a free port of 127.0.0.1 and forwards by its Rule. Its
// methods may be called at any time from anywhere; none waits for the network.
type Proxy struct {
	listener net.Listener
	keys     *Keys
	ctx      context.Context //nolint:containedctx // ends with Close, and every connection with it
	cancel   context.CancelFunc
	group    sync.WaitGroup

	mu      sync.Mutex
	target  string
	rule    Rule
	changed chan struct{} // closed when rule is replaced
	open    map[*connection]struct{}

	accepted atomic.Int64
	passed   [2]atomic.Int64
}

// New starts a proxy. The caller closes it.
func New(config Config) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("network fault proxy: %w", err)
	}
	p := &Proxy{
		listener: listener, keys: config.TLS, target: config.Target,
		changed: make(chan struct{}), open: map[*connection]struct{}{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.group.Go(p.accept)
	return p, nil
}

// Address is host:port to dial.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Close resets every connection and returns when nothing of the proxy runs.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.listener.Close()
	p.Reset()
	p.group.Wait()
}

// Set replaces the rule, for open and for new connections. A connection that
// has lost bytes by Drop is reset when the new rule does not drop.
func (p *Proxy) Set(rule Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = rule
	close(p.changed)
	p.changed = make(chan struct{})
	if rule.Drop {
		return
	}
	for c := range p.open {
		if c.lost.Load() {
			c.end(true)
		}
	}
}

// Retarget sends new connections to another server. Open ones stay; see Reset.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Reset ends every open connection with a RST on both sides and returns how
// many those were.
func (p *Proxy) Reset() int { return p.endAll(true) }

// Cut ends every open connection with a FIN on both sides, in the middle of
// whatever was said, and returns how many those were.
func (p *Proxy) Cut() int { return p.endAll(false) }

func (p *Proxy) endAll(reset bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.end(reset)
	}
	return len(p.open)
}

// Open is how many connections there are.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// Accepted is how many connections there were in all.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Passed is how many bytes were passed on, over all connections.
func (p *Proxy) Passed(way Direction) int64 { return p.passed[way].Load() }

// current is the rule and a channel that is closed when it is replaced.
func (p *Proxy) current() (Rule, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rule, p.changed
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // one that was gone before it was taken
		}
		p.accepted.Add(1)
		p.group.Go(func() { p.serve(client) })
	}
}

// serve forwards one connection until it ends.
func (p *Proxy) serve(client net.Conn) {
	c := &connection{proxy: p, client: client, done: make(chan struct{})}
	p.mu.Lock()
	target, refused := p.target, p.rule.Refuse || p.target == "" || p.ctx.Err() != nil
	if !refused {
		p.open[c] = struct{}{}
	}
	p.mu.Unlock()
	if refused {
		c.end(true)
		return
	}
	c.forward(target)
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}
