// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package dialer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Error says which hop on the way to the hub failed.
type Error struct {
	// Reason is one of package reason.
	Reason string
	// Message is what happened where.
	Message string
	// Advice is what to do about it.
	Advice string
	Err    error
}

// Error implements error. It has no reason in front: whoever shows it adds that.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code is the stable reason.
func (e *Error) Code() string { return e.Reason }

// OnTheWay tells whether a reason is of the way to an endpoint, so that another
// endpoint may be reached although this one is not. The hub had no say.
func OnTheWay(why string) bool {
	return slices.Contains([]string{
		reason.ProxyUnreachable, reason.ProxyTLS, reason.ProxyAuthRequired, reason.ProxyRefused, reason.TLSTerminated, reason.HubCAMismatch,
	}, why)
}

// errTerminated is wrapped when TLS ends before the hub.
var errTerminated = errors.New("TLS does not end at the hub")

const (
	adviseAddress     = "check --proxy-url (or HTTPS_PROXY), and that this machine may reach the proxy"
	adviseProxyCA     = "give the proxy's CA with --proxy-ca-file; if the proxy speaks no TLS itself, its URL begins with http://"
	adviseCredentials = "put user and password into the proxy's URL (FAIRLEAD_PROXY_URL=http://USER:PASSWORD@HOST:PORT)" //nolint:gosec // words about passwords
	adviseAllow       = "have the proxy's admin allow CONNECT to the hub's endpoint, name and port"
	adviseReach       = "check that the endpoint is right, and that the proxy can resolve and reach it"
	adviseTerminated  = "let it pass TLS through to the hub unchanged (docs/networks.md)"
)

// proxyError wraps what %w in the format stands for.
func proxyError(why, proxy, advice, format string, args ...any) *Error {
	err := fmt.Errorf("proxy %s: "+format, append([]any{proxy}, args...)...)
	return &Error{Reason: why, Message: err.Error(), Advice: advice, Err: err}
}

// unreached says why no TCP connection to a proxy came about.
func unreached(proxy string, err error) *Error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return proxyError(reason.ProxyUnreachable, proxy, adviseAddress, "its name does not resolve: %w", dns)
	}
	return proxyError(reason.ProxyUnreachable, proxy, adviseAddress, "connecting to it: %w", err)
}

// refused says what a proxy's answer to CONNECT means.
func refused(proxy, endpoint string, answer *http.Response) *Error {
	switch code := answer.StatusCode; {
	case code == http.StatusProxyAuthRequired:
		offered := strings.Join(answer.Header.Values("Proxy-Authenticate"), ", ")
		return proxyError(reason.ProxyAuthRequired, proxy, adviseCredentials, "it wants credentials, or does not take these (407; it offers %q, the agent can Basic)", clip(offered))
	case code == http.StatusForbidden:
		return proxyError(reason.ProxyRefused, proxy, adviseAllow, "it does not allow connections to %s (403)", endpoint)
	case code >= http.StatusInternalServerError:
		return proxyError(reason.ProxyRefused, proxy, adviseReach, "it could not reach %s (%s)", endpoint, clip(answer.Status))
	}
	return proxyError(reason.ProxyRefused, proxy, adviseAllow, "it answered CONNECT %s with %q", endpoint, clip(answer.Status))
}

// handshakeError says why TLS with the hub did not come about.
func handshakeError(endpoint string, err error) error {
	notTLS := errors.As(err, new(tls.RecordHeaderError))
	switch {
	case errors.Is(err, pki.ErrClockSkew):
		return &Error{Reason: reason.ClockSkew, Message: err.Error(), Err: err}
	case errors.Is(err, pki.ErrPinMismatch), errors.Is(err, pki.ErrHubIdentity):
		return &Error{Reason: reason.HubCAMismatch, Message: err.Error(), Err: err}
	case notTLS, errors.Is(err, errTerminated), foreignAlert(err):
		return &Error{
			Reason: reason.TLSTerminated, Advice: adviseTerminated, Err: err,
			Message: fmt.Sprintf("what answers at %s is not the hub, but something that ends TLS before it, such as a load balancer: %v", endpoint, err),
		}
	}
	return fmt.Errorf("TLS with the hub: %w", err)
}

// foreignAlert recognises alerts that no hub sends: it speaks TLS 1.3 and h2.
func foreignAlert(err error) bool {
	remote, ok := errors.AsType[*net.OpError](err)
	if !ok || remote.Op != "remote error" {
		return false
	}
	text := remote.Err.Error()
	return strings.Contains(text, "protocol version") || strings.Contains(text, "no application protocol")
}

// clip bounds what a stranger's words take in a log.
func clip(text string) string {
	const most = 200
	return text[:min(len(text), most)]
}
