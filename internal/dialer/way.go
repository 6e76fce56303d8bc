// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package dialer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Way is the way of one gRPC connection to one endpoint. It remembers why the
// connection is not there.
type Way struct {
	credentials.TransportCredentials // for what does not depend on a handshake

	endpoint string
	config   *tls.Config
	dial     DialFunc

	mu  sync.Mutex
	err error
}

// NewWay is for one grpc.ClientConn. The config is not changed and must not be
// afterwards; nil for dial is TCP without a proxy.
func NewWay(endpoint string, config *tls.Config, dial DialFunc) *Way {
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "tcp", address)
		}
	}
	return &Way{TransportCredentials: credentials.NewTLS(config), endpoint: endpoint, config: config, dial: dial}
}

// Client makes the connection, as grpc.NewClient does: nothing is dialled yet.
func (w *Way) Client(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+w.endpoint, append(options, grpc.WithTransportCredentials(w), grpc.WithContextDialer(w.connect))...)
}

// Endpoint is host:port of the hub.
func (w *Way) Endpoint() string { return w.endpoint }

// Err is why the last attempt to connect failed, an *Error where the hop is
// known, or nil if it did not.
func (w *Way) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *Way) note(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	return err
}

func (w *Way) connect(ctx context.Context, address string) (net.Conn, error) {
	conn, err := w.dial(ctx, address)
	return conn, w.note(err)
}

// ClientHandshake implements credentials.TransportCredentials. Besides what the
// config checks, the other end has to behave as a hub does: it speaks h2 and
// asks for a client certificate. A load balancer with the hub's own certificate
// and key does not.
func (w *Way) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := w.config.Clone()
	asked := config.GetClientCertificate == nil
	if inner := config.GetClientCertificate; inner != nil {
		config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return inner(info)
		}
	}
	if inner := config.VerifyConnection; inner != nil {
		config.VerifyConnection = func(state tls.ConnectionState) error {
			if err := inner(state); err != nil {
				return err
			}
			if state.NegotiatedProtocol == "" {
				return fmt.Errorf("%w: it speaks no HTTP/2", errTerminated)
			}
			return nil
		}
	}
	conn, info, err := credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
	if err == nil && !asked {
		_ = conn.Close()
		err = fmt.Errorf("%w: it does not ask for the agent's certificate", errTerminated)
	}
	if err != nil {
		return nil, nil, w.note(handshakeError(w.endpoint, err))
	}
	_ = w.note(nil)
	return conn, info, nil
}

// Clone implements credentials.TransportCredentials; both remember in one place.
func (w *Way) Clone() credentials.TransportCredentials { return w }
