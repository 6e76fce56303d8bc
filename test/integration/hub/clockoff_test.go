// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	agentenroll "fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
)

// wrong is a clock that is off until somebody sets it.
type wrong struct {
	clock.RealClock
	by atomic.Int64
}

func (w *wrong) Now() time.Time { return time.Now().Add(time.Duration(w.by.Load())) }

// shelf is a store of an agent that is sent nothing.
type shelf struct{}

func (shelf) Snapshot() link.Snapshot                                    { return link.Snapshot{StoreEpoch: "store"} }
func (shelf) Put(context.Context, wire.Key, wire.Revision, []byte) error { return nil }
func (shelf) Delete(context.Context, link.Delete) (link.Verdict, error) {
	return link.DeleteStored, nil
}
func (shelf) Forget(context.Context, wire.Key, string) error { return nil }
func (shelf) Welcomed(context.Context, link.Welcome) error   { return nil }
func (shelf) Marked(wire.HighWater)                          {}
func (shelf) Synced(context.Context, []wire.Key) error       { return nil }
func (shelf) Release(context.Context, string) error          { return nil }

// linked runs an agent's own link with these credentials until the test ends.
func (r *running) linked(creds *agentenroll.Credentials, log *journal, change func(*link.Config)) *link.Link {
	r.t.Helper()
	cfg := link.Config{
		Endpoints: []string{r.addresses.Agent}, HubID: creds.HubID(), Credentials: creds, Store: shelf{}, Hub: shelf{},
		Identity: link.Identity{AgentID: "linked", InstanceID: creds.Cluster() + creds.Serial(), Fingerprint: "fp-" + creds.Cluster(), Version: "test"},
		Log:      slog.New(slog.NewJSONHandler(log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	l, err := link.New(cfg)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	r.t.Cleanup(func() { cancel(); require.NoError(r.t, <-done) })
	return l
}

// T38: a hub comes back with a clock that is off. Within the rule its agents are
// served; a certificate that is not valid yet by the hub's clock is no expired one:
// its agent says by how much the clock is off, and is back once it is set.
func TestT38_a_hub_clock_that_is_off(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) { c.LeaderElect = false }).ready()
	cluster := plane.Unique("t38-off")
	joining, err := agentenroll.New(agentenroll.Config{Vault: &memory{}, Log: slog.New(slog.DiscardHandler), Join: hub.joinString(cluster), Fingerprint: "fp-" + cluster})
	require.NoError(t, err)
	creds, err := joining.Credentials(t.Context())
	require.NoError(t, err)
	hub.stop()
	for name, tc := range map[string]struct {
		off  time.Duration
		says []string // none where the agent is served
	}{
		"ten_minutes_behind":  {-10 * time.Minute, []string{"the hub's clock is 10m", "behind this machine's"}},
		"four_minutes_behind": {off: -4 * time.Minute},
		"four_minutes_ahead":  {off: 4 * time.Minute},
		"ten_minutes_ahead":   {10 * time.Minute, []string{"at least 9m", "behind the hub's"}}, // its own certificate is not valid yet
	} {
		t.Run(name, func(t *testing.T) {
			hand := &wrong{}
			hand.by.Store(int64(tc.off))
			hub := startHub(t, plane.RESTConfig(), func(c *server.Config) { c.LeaderElect, c.Clock = false, hand }).ready()
			log := &journal{}
			l := hub.linked(creds, log, nil)
			if tc.says != nil {
				until(t, "the agent to say by how much", func() error {
					for _, text := range append(tc.says, reason.ClockSkew, "NTP") {
						if !strings.Contains(log.String(), text) {
							return fmt.Errorf("no %q in %s", text, log)
						}
					}
					return nil
				})
				require.NotContains(t, log.String(), `"msg":"session with the hub"`, "nothing flaps")
			}
			if tc.off > 5*time.Minute {
				return // the hub's own certificate is wrong until it is made anew
			}
			if tc.says != nil { // and once the clock is set it is back
				hand.by.Store(0)
				_, metrics := hub.get("/metrics")
				require.Contains(t, metrics, `fairlead_hub_handshakes_rejected_total{reason="certificate_not_yet_valid"}`)
			}
			until(t, "a session", func() error {
				if state := l.State(); !state.Connected {
					return fmt.Errorf("%+v", state)
				}
				return nil
			})
		})
	}
}
