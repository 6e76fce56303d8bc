// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"fairlead.dev/fairlead/agent/enroll"
)

// joinPoll is how often a file with a join string is looked at.
const joinPoll = time.Second

// errJoinChanged ends what was begun with an earlier join string.
var errJoinChanged = errors.New("there is another join string")

// connect gets the agent its identity, then keeps a session with the hub until
// ctx ends. With a file for the join string, it begins anew with what comes
// there (RA-18), and what does not work is waited out (RA-20).
func (a *Agent) connect(ctx context.Context, vault enroll.Vault, fingerprint string) error {
	if a.cfg.JoinFile == "" {
		return a.meet(ctx, vault, fingerprint, a.cfg.Join)
	}
	for ctx.Err() == nil {
		text, err := a.joinText()
		if err == nil {
			err = runTasks(ctx, []task{
				{"join string", func(ctx context.Context) error { return a.untilJoinChanges(ctx, text) }},
				{"hub", func(ctx context.Context) error { return a.meet(ctx, vault, fingerprint, text) }},
			})
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errJoinChanged):
			a.log.Info("there is another join string; the agent begins anew with it", "file", a.cfg.JoinFile)
		default:
			a.log.Error("the agent has no valid identity; it waits for another join string", "file", a.cfg.JoinFile, "error", err, "retryIn", enrollRetry)
			bounded, cancel := context.WithTimeout(ctx, enrollRetry)
			_ = a.untilJoinChanges(bounded, text) // then it is tried again either way
			cancel()
		}
	}
	return nil
}

// joinText reads the file. One that is not there has no join string: it is taken
// away when it has done its work.
func (a *Agent) joinText() (string, error) {
	raw, err := os.ReadFile(a.cfg.JoinFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(raw)), err
}

// untilJoinChanges ends, with errJoinChanged, when the file has a join string
// other than this.
func (a *Agent) untilJoinChanges(ctx context.Context, text string) error {
	ticker := time.NewTicker(joinPoll)
	defer ticker.Stop()
	for {
		if now, err := a.joinText(); err == nil && now != "" && now != text {
			return errJoinChanged
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
