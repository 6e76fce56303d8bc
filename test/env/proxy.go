// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
)

// Proxy stands in front of an apiserver and makes it misbehave as told: see
// Fault and Freeze. It also counts the requests that passed. It has a TLS
// certificate of its own, so it cannot pass on client certificates: a request
// with a bearer token keeps its identity, any other one gets the identity of the
// config that the proxy was made with. Start one proxy for each such identity.
//
// Its methods may be called at any time from anywhere.
type Proxy struct {
	host    string
	ca      []byte
	server  *http.Server
	serving sync.WaitGroup

	resolver *request.RequestInfoFactory
	own      http.RoundTripper // with the credentials of the target config
	bare     http.RoundTripper // without any, for requests that bring a token

	mu      sync.Mutex
	random  *rand.Rand
	faults  []*activeFault
	freezes []*freeze
	passed  map[Call]int
	refused map[Call]int
}

// ProxyConfig is what NewProxy needs.
type ProxyConfig struct {
	// Target is the apiserver, and the identity of requests without a token.
	Target *rest.Config
	// Seed makes the choices of Fault.Share repeatable.
	Seed uint64
}

// NewProxy starts a proxy on a free port of 127.0.0.1. The caller closes it.
func NewProxy(config ProxyConfig) (*Proxy, error) {
	target, _, err := rest.DefaultServerUrlFor(config.Target)
	if err != nil {
		return nil, fmt.Errorf("fault proxy: address of the apiserver: %w", err)
	}
	p := &Proxy{
		resolver: &request.RequestInfoFactory{
			APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api"),
		},
		random:  rand.New(rand.NewPCG(config.Seed, 0)),
		passed:  map[Call]int{},
		refused: map[Call]int{},
	}
	if p.own, err = rest.TransportFor(config.Target); err != nil {
		return nil, fmt.Errorf("fault proxy: transport to the apiserver: %w", err)
	}
	if p.bare, err = rest.TransportFor(rest.AnonymousClientConfig(config.Target)); err != nil {
		return nil, fmt.Errorf("fault proxy: transport to the apiserver: %w", err)
	}
	return p, p.serve(target)
}

// StartProxy starts a proxy for one test, closed when the test ends.
func StartProxy(t testing.TB, target *rest.Config) *Proxy {
	t.Helper()
	p, err := NewProxy(ProxyConfig{Target: target, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func (p *Proxy) serve(target *url.URL) error {
	authority, err := newAuthority("fault proxy")
	if err != nil {
		return err
	}
	serving, err := authority.serving()
	if err != nil {
		return err
	}
	certificate, err := serving.tls()
	if err != nil {
		return fmt.Errorf("fault proxy: its certificate: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("fault proxy: %w", err)
	}
	p.host, p.ca = "https://"+listener.Addr().String(), authority.pem
	quiet := log.New(io.Discard, "", 0) // broken requests are its trade
	forward := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { rewrite(r, target) },
		Transport:      roundTripper(p.roundTrip),
		ModifyResponse: p.modify,
		FlushInterval:  -1,
		ErrorLog:       quiet,
	}
	p.server = &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.handle(w, r, forward) }),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 1000},
		ErrorLog:  quiet,
	}
	p.serving.Go(func() { _ = p.server.ServeTLS(listener, "", "") })
	return nil
}

// Close ends every connection through the proxy.
func (p *Proxy) Close() {
	_ = p.server.Close()
	p.serving.Wait()
	utilnet.CloseIdleConnectionsFor(p.own)
	utilnet.CloseIdleConnectionsFor(p.bare)
}

// RESTConfig returns a config that goes through the proxy with the identity of
// the config that the proxy was made with.
func (p *Proxy) RESTConfig() *rest.Config {
	return &rest.Config{Host: p.host, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAData: p.ca}}
}

// Through returns a config that goes through the proxy with the bearer token of
// config; other credentials in it cannot pass (see Proxy).
func (p *Proxy) Through(config *rest.Config) *rest.Config {
	through := p.RESTConfig()
	through.BearerToken = config.BearerToken
	return through
}

// Call is a kind of request, as counted and as matched.
type Call struct {
	// Verb is Kubernetes' own: get, list, watch, create, update, patch, delete,
	// deletecollection; or "watchlist", a watch that begins with a list.
	Verb string
	// Resource is plural and lower case, with its subresource after a slash:
	// "deployments", "manifestworks/status"; "" for what is not an object.
	Resource, Namespace, Name string
}

// Count returns how many requests that match went on to the apiserver.
func (p *Proxy) Count(match Match) int { return p.sum(p.passed, match) }

// Refused returns how many requests that match the proxy answered by itself.
func (p *Proxy) Refused(match Match) int { return p.sum(p.refused, match) }

// Calls returns what went on to the apiserver, by kind.
func (p *Proxy) Calls() map[Call]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.passed)
}

// ResetCounts forgets what was counted.
func (p *Proxy) ResetCounts() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.passed)
	clear(p.refused)
}

func (p *Proxy) sum(counts map[Call]int, match Match) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := 0
	for call, n := range counts {
		if match.fits(call) {
			total += n
		}
	}
	return total
}

// callOf reads what a request asks for.
func (p *Proxy) callOf(r *http.Request) Call {
	info, err := p.resolver.NewRequestInfo(r)
	if err != nil || !info.IsResourceRequest {
		return Call{Verb: r.Method}
	}
	call := Call{Verb: info.Verb, Resource: info.Resource, Namespace: info.Namespace, Name: info.Name}
	if info.Subresource != "" {
		call.Resource += "/" + info.Subresource
	}
	if call.Verb == "watch" && r.URL.Query().Get("sendInitialEvents") == "true" {
		call.Verb = "watchlist"
	}
	return call
}

// roundTripper is a func that is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (p *Proxy) roundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") != "" {
		return p.bare.RoundTrip(r)
	}
	return p.own.RoundTrip(r)
}

// treatment is how one request is treated, kept in its context.
type treatment struct {
	call Call
	lost func(name string) bool // which items the list in the answer is to lose; nil: none
}

type treatmentKey struct{}

func treatmentOf(ctx context.Context) treatment {
	t, _ := ctx.Value(treatmentKey{}).(treatment)
	return t
}
