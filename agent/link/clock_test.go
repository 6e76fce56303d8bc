// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// telling is the Health service of a hub that tells its time; nil: an older one.
type telling struct {
	healthv1.UnimplementedHealthServer
	now func() time.Time
}

func (s telling) Check(ctx context.Context, _ *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if s.now == nil {
		return &healthv1.HealthCheckResponse{}, nil
	}
	return &healthv1.HealthCheckResponse{}, grpc.SetHeader(ctx, metadata.Pairs(wire.TimeHeader, s.now().UTC().Format(time.RFC3339Nano)))
}

// T38: TLS says of a certificate that is not valid yet what it says of one that has
// expired. An agent whose certificate is good by its own clock tells that from an
// expired one, says by how much the hub's clock is off, tries ever more rarely,
// and comes back by itself.
func TestT38_a_hub_clock_that_is_off(t *testing.T) {
	for name, tc := range map[string]struct {
		off    time.Duration // of the hub's clock; certificates are good from a minute ago for an hour
		silent bool
		reason string
		says   []string
	}{
		"ten_minutes_behind":  {off: -10 * time.Minute, reason: reason.ClockSkew, says: []string{"the hub's clock is 10m0s behind this machine's", "NTP"}},
		"two_hours_ahead":     {off: 2 * time.Hour, reason: reason.ClockSkew, says: []string{"the hub's clock is 2h0m0s ahead of this machine's", "NTP"}},
		"it_does_not_tell":    {off: -10 * time.Minute, silent: true, reason: reason.ClockSkew, says: []string{"behind or at least", "ahead", "does not tell its time", "NTP"}},
		"within_the_rule":     {off: -50 * time.Second},
		"ahead_but_not_by_it": {off: 50 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				var off atomic.Int64
				off.Store(int64(tc.off))
				clock := func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
				told := clock
				if tc.silent {
					told = nil
				}
				b.now, b.health = clock, telling{now: told}
				h := b.hub("hub-0:443")
				b.start()
				if tc.reason == "" {
					h.accept().welcome()
					return
				}
				said := ""
				for range 5 * 60 {
					h.none(time.Second)
					// An attempt may see that the hub hung up before it reads why.
					if why := b.link.State().LastError; why != nil && strings.Contains(why.Error(), tc.reason+": ") {
						said = why.Error()
					}
				}
				for _, text := range append(tc.says, tc.reason) {
					require.Contains(t, said, text)
				}
				require.Less(t, b.dials.Load(), int64(60), "it does not flap")
				off.Store(0)
				corrected := time.Now()
				h.accept().welcome()
				require.Less(t, time.Since(corrected), 3*time.Minute)
			})
		})
	}
}

// T38: a hub that finds a certificate expired by a clock like the agent's has
// another reason, which is not the clocks.
func TestT38_clocks_that_agree(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.now, b.health = func() time.Time { return time.Now().Add(2 * time.Hour) }, telling{now: time.Now}
		var expired, skewed atomic.Bool
		b.cfg.Ended = func(why string) {
			expired.Store(expired.Load() || why == reason.CertificateExpired)
			skewed.Store(skewed.Load() || why == reason.ClockSkew)
		}
		h := b.hub("hub-0:443")
		b.start()
		h.none(5 * time.Minute)
		for range 24 * 60 { // an attempt may see that the hub hung up before it reads why
			if expired.Load() {
				break
			}
			h.none(time.Minute)
		}
		b.stop()
		require.True(t, expired.Load())
		require.False(t, skewed.Load())
	})
}
