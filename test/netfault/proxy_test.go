// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package netfault

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// echo is a server that sends back what it gets, and notes how connections end.
type echo struct {
	address string
	ends    chan error
}

func newEcho(t *testing.T, secure *tls.Config) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	e := &echo{address: listener.Addr().String(), ends: make(chan error, 16)}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				_, err := io.Copy(conn, conn)
				e.ends <- err
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); group.Wait() })
	return e
}

func newProxy(t *testing.T, config Config) *Proxy {
	t.Helper()
	p, err := New(config)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// said sends text and reads as much back.
func said(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := conn.Write([]byte(text))
	require.NoError(t, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// losing waits until n connections have lost bytes, or their end, without a word.
func losing(t *testing.T, p *Proxy, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		lost := 0
		for c := range p.open {
			if c.lost.Load() {
				lost++
			}
		}
		return lost == n
	}, patience, time.Millisecond)
}

func TestProxy_passes_everything(t *testing.T) {
	p := newProxy(t, Config{Target: newEcho(t, nil).address})
	conn := dial(t, p)
	big := string(bytes.Repeat([]byte("fairlead"), 1<<12))
	var group sync.WaitGroup
	group.Go(func() { _, _ = io.WriteString(conn, big) })
	got := make([]byte, len(big))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	group.Wait()
	require.Equal(t, big, string(got))
	for _, way := range []Direction{Up, Down} { // what was written is counted a moment later
		require.Eventually(t, func() bool { return p.Passed(way) == int64(len(big)) }, patience, time.Millisecond)
	}
	require.EqualValues(t, 1, p.Accepted())
	require.Equal(t, 1, p.Open())
}

func TestProxy_delay_and_rate(t *testing.T) {
	p := newProxy(t, Config{Target: newEcho(t, nil).address})
	conn := dial(t, p)
	p.Set(Rule{Delay: 60 * time.Millisecond})
	began := time.Now()
	said(t, conn, "late")
	require.GreaterOrEqual(t, time.Since(began), 120*time.Millisecond, "both ways are slow")
	p.Set(Rule{Rate: [2]int{Up: 1000}})
	began = time.Now()
	said(t, conn, string(make([]byte, 300)))
	require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond, "1000 bytes a second")
	p.Set(Rule{})
	said(t, conn, "and fast again")
}

func TestProxy_drop_is_half_open(t *testing.T) {
	server := newEcho(t, nil)
	p := newProxy(t, Config{Target: server.address})
	conn := dial(t, p)
	said(t, conn, "before")
	p.Set(Rule{Drop: true})
	_, err := conn.Write([]byte("lost"))
	require.NoError(t, err, "nobody says that it is lost")
	losing(t, p, 1)
	later := dial(t, p)
	losing(t, p, 2)
	require.Equal(t, 2, p.Open(), "nobody has heard of an end")
	require.Empty(t, server.ends)
	require.EqualValues(t, len("before"), p.Passed(Up))
	p.Set(Rule{})
	for _, c := range []net.Conn{conn, later} {
		_, err = c.Read(make([]byte, 1))
		require.Error(t, err, "what lost bytes is beyond repair")
		require.NotErrorIs(t, err, io.EOF, "a reset is no end")
	}
	require.Error(t, <-server.ends)
	said(t, dial(t, p), "healed")
}

func TestProxy_drop_hides_the_end(t *testing.T) {
	server := newEcho(t, nil)
	p := newProxy(t, Config{Target: server.address})
	conn := dial(t, p)
	said(t, conn, "before")
	p.Set(Rule{Drop: true})
	require.NoError(t, conn.Close())
	losing(t, p, 1)
	require.Empty(t, server.ends)
	p.Set(Rule{})
	require.Error(t, <-server.ends)
}

func TestProxy_stall_loses_nothing(t *testing.T) {
	p := newProxy(t, Config{Target: newEcho(t, nil).address})
	conn := dial(t, p)
	p.Set(Rule{Stall: true})
	_, err := conn.Write([]byte("held"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	p.Set(Rule{})
	got := make([]byte, 4)
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, "held", string(got))
}

func TestProxy_ends_of_connections(t *testing.T) {
	tests := map[string]struct {
		reason string
		act    func(*Proxy)
		reset  bool
	}{
		"reset":        {"a RST", func(p *Proxy) { require.Equal(t, 1, p.Reset()) }, true},
		"cut":          {"a FIN", func(p *Proxy) { require.Equal(t, 1, p.Cut()) }, false},
		"at byte n":    {"in the middle of what is said", func(p *Proxy) { p.Set(Rule{Cut: [2]int64{Down: 12}}) }, true},
		"already past": {"bytes from before count", func(p *Proxy) { p.Set(Rule{Cut: [2]int64{Up: 2}}) }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t, Config{Target: newEcho(t, nil).address})
			conn := dial(t, p)
			said(t, conn, "0123456789")
			test.act(p)
			_, gone := conn.Write([]byte("0123456789")) // it may be gone already, and says so once
			got, err := io.ReadAll(conn)
			err = errors.Join(gone, err)
			require.LessOrEqual(t, len(got), 2)
			require.Equal(t, test.reset, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE), "%s: %v", test.reason, err)
			require.Eventually(t, func() bool { return p.Open() == 0 }, patience, time.Millisecond)
			p.Set(Rule{})
			said(t, dial(t, p), "a new one works")
		})
	}
}

// refused dials and is turned away, during the dial or right after it.
func refused(t *testing.T, p *Proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		require.NoError(t, conn.Close())
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestProxy_refuse_and_retarget(t *testing.T) {
	one, two := newEcho(t, nil), newEcho(t, nil)
	p := newProxy(t, Config{})
	refused(t, p) // it knows no target yet
	p.Retarget(one.address)
	first := dial(t, p)
	said(t, first, "one")
	p.Set(Rule{Refuse: true})
	refused(t, p)
	said(t, first, "open ones stay")
	p.Set(Rule{})
	p.Retarget(two.address)
	said(t, first, "open ones stay")
	said(t, dial(t, p), "two")
	p.Close()
	<-one.ends
	<-two.ends
}

// frame is an HTTP/2 frame.
func frame(kind byte, payload string) string {
	n := len(payload)
	return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, 0, 0, 0, 0, 0}) + payload
}

func TestFrames_swallow_PING(t *testing.T) {
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	data, ping, empty := frame(0, "some data"), frame(typePing, "12345678"), frame(4, "")
	for _, size := range []int{1, 2, 7, 1000} {
		f := &frames{preface: true}
		var got bytes.Buffer
		all := preface + empty + ping + data + ping + data
		for len(all) > 0 {
			n := min(size, len(all))
			got.Write(f.pass([]byte(all[:n]), true))
			all = all[n:]
		}
		require.Equal(t, preface+empty+data+data, got.String(), "read by %d", size)
		require.Equal(t, ping, string(f.pass([]byte(ping), false)), "only when told to")
	}
}

func TestProxy_with_keys(t *testing.T) {
	secure := selfSigned(t)
	p := newProxy(t, Config{
		Target: newEcho(t, secure).address,
		TLS:    &Keys{Server: secure, Client: &tls.Config{InsecureSkipVerify: true}}, // a certificate made for this test
	})
	conn := tls.Client(dial(t, p), &tls.Config{InsecureSkipVerify: true})
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	said(t, conn, preface)
	// The echo has no preface of its own, so what comes back begins as a frame
	// of a length that the test does not reach.
	ping, data := frame(typePing, "12345678"), frame(0, "some data")
	said(t, conn, ping)
	p.Set(Rule{SwallowPing: true})
	_, err := io.WriteString(conn, ping)
	require.NoError(t, err)
	said(t, conn, data)
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
