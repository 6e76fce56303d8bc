// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package dialer

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// connectTimeout bounds TCP and the proxy's answer, so that a dead endpoint
	// does not keep the others waiting for long.
	connectTimeout = 10 * time.Second
	// mostAnswer bounds what is read of a proxy's answer.
	mostAnswer = 16 << 10
)

// DialFunc opens a connection to host:port.
type DialFunc func(ctx context.Context, address string) (net.Conn, error)

// Config says which way connections take.
type Config struct {
	// ProxyURL is http:// or https://, [user:password@]host[:port]. Empty is what
	// HTTPS_PROXY and NO_PROXY in the environment say; "direct" is none.
	ProxyURL string
	// ProxyCAFile has certificates (PEM) that verify an https:// proxy, besides
	// those of the system. It is read again for each connection.
	ProxyCAFile string
	// TCP replaces the network, for tests.
	TCP DialFunc
	// Environment tells the proxy for a request; nil is http.ProxyFromEnvironment.
	Environment func(*http.Request) (*url.URL, error)
}

// Direct is the ProxyURL that takes no proxy whatever the environment says.
const Direct = "direct"

// Dialer opens connections as its Config says. Safe for concurrent use.
type Dialer struct {
	cfg   Config
	fixed *url.URL // nil unless ProxyURL names a proxy
}

// New checks the configuration, without a word to anybody.
func New(cfg Config) (*Dialer, error) {
	if cfg.TCP == nil {
		cfg.TCP = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	if cfg.Environment == nil {
		cfg.Environment = http.ProxyFromEnvironment
	}
	d := &Dialer{cfg: cfg}
	if cfg.ProxyURL != "" && cfg.ProxyURL != Direct {
		proxy, err := parseProxy(cfg.ProxyURL)
		if err != nil {
			return nil, err
		}
		d.fixed = proxy
	}
	if cfg.ProxyCAFile != "" {
		if _, err := d.roots(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// parseProxy reads a proxy's URL. Its errors never repeat it: it may have a
// password.
func parseProxy(text string) (*url.URL, error) {
	proxy, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the proxy's URL is none; want http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before HOST if it asks for that")
	}
	return proxy, checkProxy(proxy)
}

func checkProxy(proxy *url.URL) error {
	switch {
	case proxy.Scheme != "http" && proxy.Scheme != "https":
		return fmt.Errorf("the proxy's URL begins with %q; want http:// or https://", proxy.Scheme+"://")
	case proxy.Hostname() == "":
		return errors.New("the proxy's URL names no host; want http://HOST:PORT or https://HOST:PORT")
	case proxy.Path != "" && proxy.Path != "/", proxy.RawQuery != "", proxy.Fragment != "":
		return fmt.Errorf("the URL of proxy %s has more than host and port", proxy.Host)
	}
	return nil
}

// Dial opens a connection to host:port, through the proxy if there is one for
// it. Errors about a proxy are *Error.
func (d *Dialer) Dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	proxy, err := d.proxy(address)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return d.cfg.TCP(ctx, address)
	}
	conn, err := d.cfg.TCP(ctx, proxyAddress(proxy))
	if err != nil {
		return nil, unreached(proxy.Host, err)
	}
	tunnel, err := d.tunnel(ctx, conn, proxy, address)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnel, nil
}

// proxy is the one to take for an address; nil is none.
func (d *Dialer) proxy(address string) (*url.URL, error) {
	if d.fixed != nil || d.cfg.ProxyURL == Direct {
		return d.fixed, nil
	}
	proxy, err := d.cfg.Environment(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
	if err == nil && proxy != nil {
		err = checkProxy(proxy)
	}
	if err != nil {
		return nil, &Error{Reason: reason.ProxyUnreachable, Message: "HTTPS_PROXY in the environment is no proxy's URL", Advice: adviseAddress, Err: err}
	}
	return proxy, nil
}

func proxyAddress(proxy *url.URL) string {
	port := proxy.Port()
	switch {
	case port != "":
	case proxy.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// tunnel makes of a connection to a proxy one to the address.
func (d *Dialer) tunnel(ctx context.Context, conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends what waits
	defer stop()
	if proxy.Scheme == "https" {
		roots, err := d.roots()
		if err != nil {
			return nil, proxyError(reason.ProxyTLS, proxy.Host, adviseProxyCA, "%w", err)
		}
		secure := tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, proxyError(reason.ProxyTLS, proxy.Host, adviseProxyCA, "TLS with it: %w", err)
		}
		conn = secure
	}
	if err := connect(conn, proxy, address); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, proxyError(reason.ProxyUnreachable, proxy.Host, adviseAddress, "no answer in time: %w", ctx.Err())
	}
	return conn, nil
}

// connect asks for the tunnel. After it the connection is at the first byte of
// what the hub says.
func connect(conn net.Conn, proxy *url.URL, address string) error {
	request := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address,
		Header: http.Header{"User-Agent": {"fairlead-agent"}},
	}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return proxyError(reason.ProxyUnreachable, proxy.Host, adviseAddress, "asking it for a tunnel: %w", err)
	}
	reader := bufio.NewReader(io.LimitReader(conn, mostAnswer))
	answer, err := http.ReadResponse(reader, request)
	if err != nil {
		return proxyError(reason.ProxyUnreachable, proxy.Host, adviseAddress+"; is it a proxy, and does its URL begin rightly with http:// or https://?", "it does not answer CONNECT in HTTP: %w", err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return refused(proxy.Host, address, answer)
	}
	if reader.Buffered() > 0 { // the hub says nothing before the agent does
		return proxyError(reason.ProxyRefused, proxy.Host, adviseAllow, "it sent %d bytes of its own into the tunnel", reader.Buffered())
	}
	return nil
}

// roots verify an https:// proxy; they are never used for the hub.
func (d *Dialer) roots() (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without any
	}
	if d.cfg.ProxyCAFile == "" {
		return roots, nil
	}
	content, err := os.ReadFile(d.cfg.ProxyCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of the proxy: %w", err)
	}
	if !roots.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("the file of the proxy's CA %q has no certificate (PEM)", d.cfg.ProxyCAFile)
	}
	return roots, nil
}
