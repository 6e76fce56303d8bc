// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !faultinject

package agent

import (
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
)

// faults is where a build with the tag faultinject breaks sessions on purpose.
// In this build there are none.
type faults struct{}

func newFaults() *faults { return nil }

func (*faults) antiEntropy(d time.Duration) time.Duration { return d }

func (*faults) lose(*agentv1.SessionResponse) {}
