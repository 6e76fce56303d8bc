// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	agentenroll "fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/test/env"
)

// T38: an agent enrolls whose clock differs from the hub's. A hub whose serving
// certificate was made by a clock that is ahead is the same to it as a clock of its
// own that is behind.
func TestT38_an_enrollment_by_a_clock_that_differs(t *testing.T) {
	plane := env.Shared(t)
	for name, tc := range map[string]struct {
		agent   time.Duration
		refused bool
	}{
		"ten_minutes_behind": {-10 * time.Minute, true}, "four_minutes_behind": {-4 * time.Minute, false}, "ten_minutes_ahead": {10 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			now := time.Now().Add(-tc.agent)
			ca, err := pki.NewCA("own", time.Now().Add(-time.Hour), 2*time.Hour)
			require.NoError(t, err)
			serving, err := ca.IssueServing([]string{"127.0.0.1"}, now, time.Hour)
			require.NoError(t, err)
			key, ok := serving.PrivateKey.(crypto.Signer)
			require.True(t, ok)
			encoded, err := pki.EncodeKey(key)
			require.NoError(t, err)
			for file, content := range map[string][]byte{
				"ca.crt": pki.EncodeCertificates(ca.Cert), "tls.crt": pki.EncodeCertificates(serving.Leaf, ca.Cert), "tls.key": encoded,
			} {
				require.NoError(t, os.WriteFile(at(file), content, 0o600))
			}
			hub := startHub(t, plane.RESTConfig(), func(c *server.Config) {
				c.TLSCert, c.TLSKey, c.AgentClientCA, c.LeaderElect = at("tls.crt"), at("tls.key"), at("ca.crt"), false
			}).ready()
			cluster := plane.Unique("t38")
			join, err := pki.JoinString{
				Endpoints: []string{hub.addresses.Agent}, CASHA256: fmt.Sprintf("%x", pki.Fingerprint(ca.Cert)), Token: hub.token(cluster, false), Name: cluster,
			}.Encode()
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			asked, log := false, &journal{}
			joining, err := agentenroll.New(agentenroll.Config{
				Vault: &memory{}, Log: slog.New(slog.NewJSONHandler(log, nil)), Join: join,
				Waiting: func(agentenroll.Request) { asked = true; cancel() },
			})
			require.NoError(t, err)
			ended := make(chan error, 1)
			go func() {
				_, err := joining.Credentials(ctx)
				ended <- err
			}()
			if tc.refused { // it goes on trying, until somebody sets the clock
				until(t, "the agent to say by how much", func() error {
					for _, text := range []string{reason.ClockSkew, "at least 9m", "behind the hub's", "NTP"} {
						if !strings.Contains(log.String(), text) {
							return fmt.Errorf("no %q in %s", text, log)
						}
					}
					return nil
				})
				cancel()
			}
			err = <-ended
			require.Equal(t, !tc.refused, asked, "%v", err)
		})
	}
}
