// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// three are endpoints of which a test decides what is there.
func three(j *pki.JoinString) {
	j.Endpoints = []string{"a.test:443", "b.test:443", "hub.test:443"}
}

func TestEnrollmentGoesOnToTheNextEndpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		other := newHub(t) // with a CA of its own: somebody took one of the addresses
		defer other.server.Stop()
		cfg := h.config(vault, h.join(three))
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			switch address {
			case "a.test:443":
				return nil, errors.New("nobody is there")
			case "b.test:443":
				return other.dial(ctx, address)
			}
			return h.dial(ctx, address)
		}
		began := time.Now()
		_, err := enroll(t, cfg)
		require.NoError(t, err)
		require.Zero(t, time.Since(began), "no wait while there is another endpoint")
		require.Empty(t, other.tokens, "T64: the one with another CA was told nothing")
	})
}

func TestEnrollmentSaysWhichHopFailsAndGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		cfg := h.config(vault, h.join())
		failing := 3
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if failing--; failing >= 0 {
				return nil, &dialer.Error{Reason: reason.ProxyAuthRequired, Message: "proxy p:1: it wants credentials", Advice: "give it some"}
			}
			return h.dial(ctx, address)
		}
		var log bytes.Buffer
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		_, err := enroll(t, cfg)
		require.NoError(t, err, "the proxy was mended meanwhile")
		require.Contains(t, log.String(), "PROXY_AUTH_REQUIRED: hub at hub.test:443: proxy p:1: it wants credentials; give it some")
	})
}
