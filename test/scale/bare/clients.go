// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package bare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/test/scale/child"
	"fairlead.dev/fairlead/test/scale/stat"
)

// dialling is how many clients connect at once.
const dialling = 64

// clients are all of them, in one process.
type clients struct {
	ca           *pki.CA
	certificates []*tls.Certificate

	mu        sync.Mutex
	conns     []*grpc.ClientConn
	streams   []grpc.ClientStream
	latencies []time.Duration

	received stat.Tally
	readers  sync.WaitGroup
}

// Clients is the clients' process.
func Clients(ctx context.Context, dir string) error {
	ca, err := readCA(dir)
	if err != nil {
		return err
	}
	c := &clients{ca: ca}
	return child.Serve(ctx, os.Stdin, os.Stdout, child.Handlers{
		"connect":   child.Do(c.connect),
		"hangup":    child.Do(c.hangUp),
		"send":      child.Do(c.send),
		"received":  child.Do(c.received.Await),
		"latencies": child.Do(c.takeLatencies),
	})
}

// Connect asks for so many connections with one stream each.
type Connect struct {
	Address string
	Agents  int
	Curves  []tls.CurveID // none: Go's choice
}

func (c *clients) connect(_ context.Context, to Connect) (child.None, error) {
	for len(c.certificates) < to.Agents {
		certificate, err := agentCertificate(c.ca, len(c.certificates))
		if err != nil {
			return child.None{}, err
		}
		c.certificates = append(c.certificates, certificate)
	}
	var group errgroup.Group
	group.SetLimit(dialling)
	for i := range to.Agents {
		group.Go(func() error { return c.dial(to, c.certificates[i]) })
	}
	return child.None{}, group.Wait()
}

func (c *clients) dial(to Connect, certificate *tls.Certificate) error {
	client := pki.NewClient(pki.Trust{Roots: []*x509.Certificate{c.ca.Cert}})
	client.SetCertificate(certificate)
	config := client.TLSConfig("127.0.0.1")
	config.CurvePreferences = to.Curves
	conn, err := grpc.NewClient("passthrough:///"+to.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true}),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithWriteBufferSize(4<<10), grpc.WithReadBufferSize(4<<10), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return err
	}
	stream, err := conn.NewStream(context.Background(), description(), method, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("opening a stream: %w", err)
	}
	var welcome wrapperspb.BytesValue
	if err := stream.RecvMsg(&welcome); err != nil {
		return fmt.Errorf("waiting for the welcome: %w", err)
	}
	c.readers.Go(func() { c.read(stream) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns, c.streams = append(c.conns, conn), append(c.streams, stream)
	return nil
}

// read counts messages until the stream ends.
func (c *clients) read(stream grpc.ClientStream) {
	for {
		var message wrapperspb.BytesValue
		if stream.RecvMsg(&message) != nil {
			return
		}
		if sent, ok := stamp(message.GetValue()); ok {
			took := time.Since(sent)
			c.mu.Lock()
			c.latencies = append(c.latencies, took)
			c.mu.Unlock()
		}
		c.received.Add(1)
	}
}

// send sends one message of so many bytes from each client.
func (c *clients) send(_ context.Context, bytes int) (int, error) {
	for _, stream := range c.streams {
		if err := stream.SendMsg(wrapperspb.Bytes(make([]byte, bytes))); err != nil {
			return 0, err
		}
	}
	return len(c.streams), nil
}

func (c *clients) hangUp(context.Context, child.None) (child.None, error) {
	c.mu.Lock()
	conns := c.conns
	c.conns, c.streams = nil, nil
	c.mu.Unlock()
	for _, conn := range conns {
		if err := conn.Close(); err != nil {
			return child.None{}, err
		}
	}
	c.readers.Wait()
	return child.None{}, nil
}

func (c *clients) takeLatencies(context.Context, child.None) ([]time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.latencies
	c.latencies = nil
	return taken, nil
}

// stampMark begins a message that has the time of its sending behind it; a
// push's first byte is 0.
const stampMark = 0xF1

func stamped(bytes int) []byte {
	payload := make([]byte, max(bytes, 9))
	payload[0] = stampMark
	binary.BigEndian.PutUint64(payload[1:], uint64(time.Now().UnixNano()))
	return payload
}

func stamp(payload []byte) (time.Time, bool) {
	if len(payload) < 9 || payload[0] != stampMark {
		return time.Time{}, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(payload[1:]))), true
}
