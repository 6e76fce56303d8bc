// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

// attempt is one go at following the apiserver.
type attempt struct {
	began  time.Time
	err    error
	listed bool // it began with a list
	lists  bool // the next one will
}

// attempts decides how soon the next one comes, and logs what is wrong: once,
// and again every minute while it lasts.
type attempts struct {
	log     *slog.Logger
	backoff *wait.Backoff
	listed  time.Time
	last    string
	at      time.Time
}

func newAttempts(log *slog.Logger) *attempts {
	a := &attempts{log: log}
	a.reset()
	return a
}

func (a *attempts) reset() {
	a.backoff = &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 5, Cap: time.Second}
}

// pause waits until the next attempt is due, or ctx ends.
func (a *attempts) pause(ctx context.Context, t attempt) {
	lasted := time.Since(t.began)
	if t.listed {
		a.listed = t.began
	}
	switch {
	case t.err == nil && lasted > time.Second, lasted > time.Minute:
		a.reset()
		a.last = ""
	case !t.listed && t.lists && time.Since(a.listed) > time.Minute:
		a.reset() // the apiserver answers, and there is something to learn
	}
	a.complain(t.err)
	timer := time.NewTimer(a.backoff.Step())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (a *attempts) complain(err error) {
	if err == nil {
		return
	}
	text := err.Error()
	if apierrors.IsNotFound(err) {
		text = "the apiserver does not serve ManifestWorks yet; install their CRD (work.open-cluster-management.io/v1)"
	}
	if text == a.last && time.Since(a.at) < time.Minute {
		return
	}
	a.last, a.at = text, time.Now()
	a.log.Warn("index of ManifestWorks waits for the apiserver", "error", text)
}
