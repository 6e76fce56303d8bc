// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package obs

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLogger(t *testing.T) {
	cases := map[string]struct {
		reason    string
		format    string
		verbosity int
		write     func(*slog.Logger)
		want      string
		never     string
	}{
		"json": {"one JSON object a line", FormatJSON, 0, func(l *slog.Logger) { l.Info("x", KeyCluster, "c1") }, `"cluster":"c1"`, "cluster=c1"},
		"text": {"key=value", FormatText, 0, func(l *slog.Logger) { l.Info("x", KeyCluster, "c1") }, `cluster=c1`, "{"},
		"T73 secrets by name": {
			"a secret that somebody logs by mistake stays out of the log", FormatText, 0,
			func(l *slog.Logger) { l.Info("x", "Token", "abc.def") }, "[redacted]", "abc.def",
		},
		"quiet":   {"steps are not shown by default", FormatText, 0, func(l *slog.Logger) { l.Debug("step"); l.Info("change") }, "change", "step"},
		"verbose": {"--v=1 shows steps", FormatText, 1, func(l *slog.Logger) { l.Debug("step") }, "step", "change"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log, err := NewLogger(&out, tc.format, tc.verbosity)
			require.NoError(t, err)
			tc.write(log)
			require.Contains(t, out.String(), tc.want, tc.reason)
			require.NotContains(t, out.String(), tc.never, tc.reason)
		})
	}
	_, err := NewLogger(&bytes.Buffer{}, "xml", 0)
	require.ErrorContains(t, err, `log format "xml": want one of text, json`)
}

func TestRouteKubernetes(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, FormatText, 0)
	require.NoError(t, err)
	libraries := slog.New(quieter{log.Handler()}).With("logger", "kubernetes").WithGroup("g")
	libraries.Info("starting event source")
	libraries.Warn("watch ended")
	require.NotContains(t, out.String(), "event source", "their information is no change of ours")
	require.Contains(t, out.String(), "watch ended")
	require.Contains(t, out.String(), "logger=kubernetes")
}

func TestHealth(t *testing.T) {
	var health Health
	get := func(path string) (int, string) {
		recorder := httptest.NewRecorder()
		health.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		return recorder.Code, recorder.Body.String()
	}
	code, _ := get("/readyz")
	require.Equal(t, 200, code, "nothing to check is ready")

	var broken error
	health.Add("index", func() error { return broken })
	health.Add("caches", func() error { return nil })
	code, body := get("/readyz?verbose")
	require.Equal(t, 200, code)
	require.Equal(t, "[+] caches ok\n[+] index ok\nok\n", body) //nolint:dupword // as Kubernetes answers
	require.NoError(t, health.Err())

	broken = errors.New("3 pages read, not synced")
	code, body = get("/readyz")
	require.Equal(t, 503, code)
	require.Equal(t, "[-] index: 3 pages read, not synced\nnot ready\n", body)
	require.ErrorIs(t, health.Err(), broken)
}

func TestRegistry(t *testing.T) {
	registry := NewRegistry(HubPrefix)
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: HubPrefix + "x_total", Help: "x"}))
	recorder := httptest.NewRecorder()
	MetricsHandler(slog.New(slog.DiscardHandler), registry).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, 200, recorder.Code)
	for _, metric := range []string{"fairlead_hub_build_info{", "fairlead_hub_x_total 0", "go_goroutines ", "process_open_fds "} {
		require.Contains(t, recorder.Body.String(), metric)
	}
}
