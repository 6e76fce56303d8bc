// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/scale/fleet"
	"fairlead.dev/fairlead/test/scale/stat"
	"fairlead.dev/fairlead/test/scale/world"
)

// TestMain lets the test's own binary be the parts of a measurement.
func TestMain(m *testing.M) {
	if !isPart(os.Args) {
		env.Verify(m, func(code int) int { return code })
	}
	if err := part(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A small run shows that the measurement measures what it says; no figure of it
// is held against a goal. Large ones are made by «make bench».
func TestFleet(t *testing.T) { t.Run("RQ-10_a_small_one", smallFleet) }

func smallFleet(t *testing.T) {
	const agents = 5
	ctx := t.Context()
	b, err := newBench(ctx, config{agents: agents, repeats: 1, idle: 100 * time.Millisecond})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.close(t.Failed())) }()
	steps, err := without(b.steps(), "storms") // they take their time
	require.NoError(t, err)
	require.NoError(t, b.run(ctx, steps))

	r := &b.report
	require.NotEmpty(t, r.works)
	require.Equal(t, agents, r.works[0].requests["POST manifestworks"])
	require.NotEmpty(t, r.bursts)
	require.Positive(t, r.bursts[0])
	require.NotEmpty(t, r.statuses)
	require.GreaterOrEqual(t, r.statuses[0].requests["PATCH manifestworks/status"], agents)
	require.Equal(t, agents, r.sameReports)
	require.Zero(t, r.same.requests["PATCH manifestworks/status"], "what is stored already is not written again")
	require.Len(t, r.latency, agents)
	require.Positive(t, r.hubIdle.heap)
	require.Positive(t, r.bareIdle.heap)
	require.Zero(t, r.firstAttach.requests["POST manifestworks"])

	var text, markdown bytes.Buffer
	require.NoError(t, printText(&text, b.rows()))
	require.NoError(t, printMarkdown(&markdown, b.rows()))
	require.Contains(t, text.String(), "memory per idle agent")
	require.Contains(t, markdown.String(), "| figure | goal | hub | bare | ratio |")
}

func TestDelays(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	arrivals := []fleet.Arrival{
		{Cluster: "a", Name: workName(0), At: at(5)},
		{Cluster: "b", Name: workName(0), At: at(9)},
		{Cluster: "b", Name: workName(1), At: at(1)},
	}
	seen := []world.Seen{
		{Cluster: "a", Name: workName(0), Label: "latency", At: at(4)},
		{Cluster: "a", Name: workName(0), Label: "latency", At: at(7)}, // of a status, later
		{Cluster: "b", Name: workName(0), At: at(0)},                   // before it was touched
		{Cluster: "b", Name: workName(0), Label: "latency", At: at(6)},
	}
	sinceSeen, sinceAnswer := delays(arrivals, seen, map[string]time.Time{"a": at(6), "b": at(7)})
	require.Equal(t, []time.Duration{time.Millisecond, 3 * time.Millisecond}, sinceSeen)
	require.Equal(t, []time.Duration{-time.Millisecond, 2 * time.Millisecond}, sinceAnswer)
}

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{0: "0.00", 1.234: "1.23", 12.34: "12.3", 1234.5: "1234", -45.67: "-45.7"} {
		require.Equal(t, want, number(x))
	}
}

func TestWorkGoal(t *testing.T) {
	require.InDelta(t, 153.7, workGoal(1000), 0.1)
	require.InDelta(t, 157.2, workGoal(2000), 0.1)
	require.Equal(t, "pass", mark(true))
	require.Equal(t, 10*time.Microsecond, each(time.Millisecond, 100))
	require.InDelta(t, 50, perSecond(time.Second, 20*time.Second), 0.01)
	require.Equal(t, stat.Counts{}, stat.Counts{"x": 1}.Since(stat.Counts{"x": 1}))
}
