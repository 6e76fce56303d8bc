// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/test/env"
)

// clock is a passive clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now().UTC()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Since(at time.Time) time.Duration { return c.Now().Sub(at) }

func (c *clock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

var listOptions = metav1.ListOptions{}

// refusal makes the apiserver refuse every write to one object.
func refusal(namespace, name string) env.Fault {
	return env.Fault{Match: env.Match{Verbs: env.Writes(), Namespace: namespace, Name: name}, Status: 403}
}
