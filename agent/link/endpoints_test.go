// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// outages are what a network keeps from the hubs.
type outages struct {
	refused sync.Map     // endpoints at which nobody listens
	silent  atomic.Int32 // attempts at the endpoint that a firewall swallows
}

func (b *bench) outages(silent string) *outages {
	o, tcp := &outages{}, b.cfg.Dial
	d, err := dialer.New(dialer.Config{ProxyURL: dialer.Direct, TCP: func(ctx context.Context, address string) (net.Conn, error) {
		if address == silent {
			o.silent.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if _, refused := o.refused.Load(address); refused {
			return nil, errors.New("connection refused")
		}
		return tcp(ctx, address)
	}})
	require.NoError(b.t, err)
	b.cfg.Dial = d.Dial
	return o
}

// A dead first endpoint costs its time once, not at each reconnect.
func TestDeadEndpointDoesNotDelayReconnects(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.cfg.Endpoints = []string{"dead:443", "hub-1:443", "hub-2:443"}
		o := b.outages("dead:443")
		h, other := b.hub("hub-1:443"), b.hub("hub-2:443")
		began := time.Now()
		b.start()
		p := h.accept()
		require.LessOrEqual(t, time.Since(began), 10*time.Second, "a dead endpoint has ten seconds")
		for range 3 {
			p.welcome(func(w *agentv1.Welcome) {
				w.Reconnect = &agentv1.ReconnectPolicy{Spread: durationpb.New(2 * time.Second)}
			})
			stop := p.heartbeats()
			time.Sleep(time.Minute)
			stop()
			lost := time.Now()
			p.end <- nil
			p = h.accept()
			require.LessOrEqual(t, time.Since(lost), 2*time.Second, "it goes straight to the one that worked")
		}
		require.EqualValues(t, 1, o.silent.Load())

		// When that one is gone the others are tried in turn, and when those are,
		// all again.
		o.refused.Store("hub-1:443", true)
		p.end <- nil
		p = other.accept()
		p.welcome()
		require.EqualValues(t, 1, o.silent.Load(), "one that is not known to be dead comes first")
		o.refused.Store("hub-2:443", true)
		p.end <- nil
		time.Sleep(5 * time.Minute)
		require.Greater(t, o.silent.Load(), int32(2))
		o.refused.Delete("hub-1:443")
		h.accept().welcome()
	})
}

// A hub that welcomes and then ends at once must not be taken for one that
// works, nor be asked without a pause.
func TestHubsThatEndAtOnceAreBackedAwayFrom(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.cfg.Endpoints = []string{"hub-0:443", "hub-1:443"}
		hubs := []*hub{b.hub("hub-0:443"), b.hub("hub-1:443")}
		b.start()
		began, sessions := time.Now(), 0
		for time.Since(began) < time.Minute {
			select {
			case p := <-hubs[sessions%2].sessions:
				sessions++
				p.welcome()
				p.end <- nil
			case <-time.After(time.Second):
			}
		}
		require.Less(t, sessions, 30)
		require.Greater(t, sessions, 4)
	})
}

// A load balancer that has the hub's certificate and key, and so ends TLS.
func TestTLSThatEndsBeforeTheHub(t *testing.T) {
	inBubble(t, func(b *bench) {
		serving, err := b.ca.IssueServing([]string{hubName}, time.Now(), time.Hour)
		require.NoError(t, err)
		h := b.hub("hub-0:443")
		h.server.Stop()
		balancer := &hub{t: t, listener: bufconn.Listen(1 << 20), sessions: make(chan *peer, 10)}
		balancer.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*serving}, MinVersion: tls.VersionTLS13})))
		agentv1.RegisterAgentServiceServer(balancer.server, balancer)
		b.hubs["hub-0:443"] = balancer
		go func() { _ = balancer.server.Serve(balancer.listener) }()
		b.start()
		balancer.none(10 * time.Second)
		synctest.Wait()
		var why *Ended
		require.ErrorAs(t, b.link.State().LastError, &why)
		require.Equal(t, reason.TLSTerminated, why.Reason)
		require.ErrorContains(t, why, "let it pass TLS through")
	})
}
