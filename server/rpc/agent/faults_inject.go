// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build faultinject

package agent

import (
	"os"
	"sync/atomic"
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// What a build with the tag faultinject reads from its environment.
const (
	// variableLose names a work: the first message with its content reaches the
	// agent without it.
	variableLose = "FAIRLEAD_FAULT_LOSE_WORK"
	// variableAntiEntropy is the interval of anti-entropy.
	variableAntiEntropy = "FAIRLEAD_FAULT_ANTIENTROPY"
)

// faults breaks sessions on purpose. No transport can lose a message in the
// middle of a stream, but a bug can: this stands for it.
type faults struct {
	work     string
	interval time.Duration
	lost     atomic.Bool
}

func newFaults() *faults {
	interval, _ := time.ParseDuration(os.Getenv(variableAntiEntropy)) // zero leaves it alone
	return &faults{work: os.Getenv(variableLose), interval: interval}
}

func (f *faults) antiEntropy(d time.Duration) time.Duration {
	if f.interval > 0 {
		return f.interval
	}
	return d
}

// lose empties a message. Its sequence number goes on, so that nobody but
// anti-entropy can notice.
func (f *faults) lose(message *agentv1.SessionResponse) {
	delta := message.GetDelta()
	for _, change := range delta.GetChanges() {
		if f.work != "" && change.GetUpsert() != nil && change.GetKey().GetName() == f.work && f.lost.CompareAndSwap(false, true) {
			delta.Changes = nil
			return
		}
	}
}
