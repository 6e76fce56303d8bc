// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package obs sets up what hub and agent are observed by: structured logs,
// metric registries and health checks. It decides formats and names, keeps
// secrets out of logs, and routes what Kubernetes libraries log into the same
// stream. It knows nothing about what is being observed.
package obs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"k8s.io/klog/v2"
)

// Log formats.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Keys that every room uses for the same thing, so that logs can be searched.
const (
	KeyCluster = "cluster"
	KeySession = "session"
	KeyWork    = "work"
	KeyMethod  = "method"
	KeyCode    = "code"
	KeyReason  = "reason"
	KeyRequest = "request"
	KeyRemote  = "remote"
	KeyError   = "error"
)

// Formats lists the log formats, for help texts.
func Formats() []string { return []string{FormatText, FormatJSON} }

// NewLogger returns a logger that writes to w. Verbosity 0 shows what changes
// state, 1 and more also the steps in between. Attributes whose key names a
// secret are never printed.
func NewLogger(w io.Writer, format string, verbosity int) (*slog.Logger, error) {
	level := slog.LevelInfo
	if verbosity > 0 {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	switch format {
	case FormatText:
		return slog.New(slog.NewTextHandler(w, options)), nil
	case FormatJSON:
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("log format %q: want one of %s", format, strings.Join(Formats(), ", "))
}

// RouteKubernetes sends what client-go and its relatives log (klog, a global of
// theirs) to log; what they call information is a step in between to us. Only a
// main package calls it, once, before anything starts.
func RouteKubernetes(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(quieter{log.Handler()}).With("logger", "kubernetes"))
}

// stopNoise is controller-runtime's word for a leader that steps down because
// it was told to stop: an error to it, and nothing to anybody else.
const stopNoise = "error received after stop sequence was engaged"

// quieter makes everything below a warning a debug line.
type quieter struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, quiet(level))
}

// Handle implements slog.Handler.
func (q quieter) Handle(ctx context.Context, record slog.Record) error {
	record.Level = quiet(record.Level)
	if record.Message == stopNoise {
		record.Level = slog.LevelDebug
	}
	return q.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{q.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (q quieter) WithGroup(name string) slog.Handler { return quieter{q.Handler.WithGroup(name)} }

func quiet(level slog.Level) slog.Level {
	if level < slog.LevelWarn {
		return min(level, slog.LevelDebug)
	}
	return level
}

// redact hides attributes that are secrets by name. It is the second line of
// defence: nobody is meant to log a secret.
func redact(_ []string, attr slog.Attr) slog.Attr {
	if slices.Contains(secretKeys(), strings.ToLower(attr.Key)) {
		return slog.String(attr.Key, "[redacted]")
	}
	return attr
}

func secretKeys() []string {
	return []string{"token", "join_token", "jointoken", "authorization", "password", "secret", "key_pem", "private_key", "hmac"}
}
