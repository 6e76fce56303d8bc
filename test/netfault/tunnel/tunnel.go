// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tunnel is an HTTP proxy as networks of companies have them: it makes
// tunnels by CONNECT, with TLS or without, for those who have its password, and
// resolves names that nobody else knows. In: what to ask for and whom to refuse.
// Out: an address, and what it saw: where connections went and the bytes that
// passed up. It knows nothing of what goes through.
package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config is what New needs.
type Config struct {
	// TLS makes it an https:// proxy.
	TLS *tls.Config
	// User and Password are asked for if set.
	User, Password string
	// Names maps host:port that are asked for to those that are dialled.
	Names map[string]string
	// Status refuses every tunnel with this HTTP status; 0 refuses none.
	Status int
}

// Proxy listens on a free port of 127.0.0.1. Its methods may be called at any
// time from anywhere.
type Proxy struct {
	cfg      Config
	listener net.Listener
	server   *http.Server
	group    sync.WaitGroup

	mu      sync.Mutex
	targets []string
	up      bytes.Buffer
	open    map[net.Conn]struct{}
}

// New starts a proxy. The caller closes it.
func New(cfg Config) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("tunnel proxy: %w", err)
	}
	p := &Proxy{cfg: cfg, listener: listener, open: map[net.Conn]struct{}{}}
	p.server = &http.Server{
		Handler: http.HandlerFunc(p.serve), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
	}
	if cfg.TLS != nil {
		listener = tls.NewListener(listener, cfg.TLS)
	}
	p.group.Go(func() { _ = p.server.Serve(listener) })
	return p, nil
}

// Address is host:port of the proxy.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Close ends the proxy and every tunnel.
func (p *Proxy) Close() {
	_ = p.server.Close()
	p.Cut()
	p.group.Wait()
}

// Cut ends every tunnel that is open.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

// Targets are the host:port for which a tunnel was made, in order.
func (p *Proxy) Targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.targets...)
}

// Up is everything that passed through tunnels from those who asked for them.
func (p *Proxy) Up() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.up.Bytes())
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.cfg.User+":"+p.cfg.Password))
	switch {
	case r.Method != http.MethodConnect:
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
	case p.cfg.User != "" && r.Header.Get("Proxy-Authorization") != want:
		w.Header().Set("Proxy-Authenticate", `Basic realm="test"`)
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
	case p.cfg.Status != 0:
		http.Error(w, "no", p.cfg.Status)
	default:
		p.tunnel(w, r)
	}
}

func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	target := r.Host
	if known, ok := p.cfg.Names[target]; ok {
		target = known
	}
	far, err := (&net.Dialer{}).DialContext(context.WithoutCancel(r.Context()), "tcp", target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = far.Close()
		return
	}
	_ = near.SetDeadline(time.Time{})
	p.mu.Lock()
	p.targets = append(p.targets, r.Host)
	p.open[near], p.open[far] = struct{}{}, struct{}{}
	p.mu.Unlock()
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	p.group.Go(func() { p.copy(far, io.TeeReader(near, p.recorder()), near) })
	p.group.Go(func() { p.copy(near, far, far) })
}

// copy passes one direction on until it ends, and ends both then.
func (p *Proxy) copy(to net.Conn, from io.Reader, source net.Conn) {
	_, _ = io.Copy(to, from)
	_, _ = to.Close(), source.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, to)
	delete(p.open, source)
}

type recorder struct{ *Proxy }

func (p *Proxy) recorder() io.Writer { return recorder{p} }

// Write implements io.Writer.
func (r recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up.Write(b)
}
