// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/test/env"
)

// source is the i-th address of a network of attackers.
func source(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) }

// T52, guesses: whoever does not know a token's secret asks the apiserver about it
// ten times an hour, from however many addresses, and gets nowhere.
func TestT52_guesses_are_few(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, func(cfg *enroll.Config) { cfg.Limits = enroll.Limits{}; cfg.Clock = fakeClock() })
	text := token(t, s, enroll.Policy{NamePattern: "guessed-*"})
	request := newMachine(t, "guessed-1").request("")
	begun := time.Now()
	answers := map[string]int{}
	const guesses = 5_000
	for i := range guesses {
		request.Token, request.Source = fmt.Sprintf("%s.%052d", text[:10], i), source(i%200)
		_, err := s.Enroll(t.Context(), request)
		var refused *enroll.Error
		require.ErrorAs(t, err, &refused)
		answers[refused.Reason]++
	}
	require.Equal(t, map[string]int{reason.InvalidToken: 10, reason.RateLimited: guesses - 10}, answers)
	t.Logf("%d guesses of 10⁶ in %v", guesses, time.Since(begun))
	asked, err := env.Shared(t).AuditEvents(func(e *auditv1.Event) bool {
		return e.Verb == "get" && e.ObjectRef != nil && e.ObjectRef.Name == "fairlead-jointoken-"+text[:10]
	})
	require.NoError(t, err)
	require.Len(t, asked, 10, "the others cost the apiserver nothing")
	h.nothingOf(t, "guessed-1")
}

// T53, scaled: fifty sources ask as fast as they can, with good tokens. What is
// stored stays within the bound, nobody who waits is pushed out, and an honest one
// is heard: the budget of all is not used up.
func TestT53_a_flood_keeps_nobody_out(t *testing.T) { // not parallel: it counts what all have left waiting
	h := newHub(t)
	clk := fakeClock()
	const sources, clusters, room = 50, 24, 10
	s := h.replica(t, func(cfg *enroll.Config) { cfg.Limits, cfg.Clock = enroll.Limits{Pending: h.waiting(t) + room}, clk })
	before := h.waiting(t)
	requests := make([]enroll.Request, clusters)
	for i := range requests {
		cluster := fmt.Sprintf("flood-%d", i)
		requests[i] = newMachine(t, cluster).request(token(t, s, enroll.Policy{ClusterName: cluster}))
	}
	honest := newMachine(t, "honest-1").request(token(t, s, enroll.Policy{ClusterName: "honest-1"}))
	flood := func() {
		var group sync.WaitGroup
		for i := range sources {
			group.Go(func() {
				for n := range 40 {
					request := requests[(i+n)%clusters]
					request.Source = source(i)
					_, _ = s.Enroll(t.Context(), request) // what becomes of it is counted afterwards
				}
			})
		}
		group.Wait()
	}
	flood()
	require.Equal(t, before+room, h.waiting(t), "not one more")
	clk.Step(time.Second)
	flood()
	_, err := s.Enroll(t.Context(), honest)
	require.ErrorIs(t, err, &enroll.Error{Reason: reason.TooManyPending}, "the budget of all is not used up by a few: the bound on what waits is what says no")
	require.Equal(t, before+room, h.waiting(t), "none of those that wait is pushed out")
}

// waiting counts the enrollments that wait for a person.
func (h *hub) waiting(t *testing.T) int {
	t.Helper()
	var all v1alpha1.ClusterEnrollmentList
	require.NoError(t, h.admin.List(t.Context(), &all))
	n := 0
	for _, e := range all.Items {
		if e.Status.State == v1alpha1.StatePending {
			n++
		}
	}
	return n
}

// T72: who has no token learns nothing from what is said of tokens, clusters and
// enrollments that there are and that there are not, nor from how long it takes.
func TestT72_the_same_answer_at_the_same_time(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	known := token(t, s, enroll.Policy{NamePattern: "t72-*", MaxUses: 5})
	there := newMachine(t, "t72-there")
	enrolled, err := s.Enroll(t.Context(), there.request(known))
	require.NoError(t, err)
	ask := func(cluster, id string) func() error {
		request := newMachine(t, cluster).request(id + "." + strings.Repeat("a", 52))
		return func() error { _, err := s.Enroll(t.Context(), request); return err }
	}
	poll := func(id string) func() error {
		return func() error {
			_, err := s.Get(t.Context(), id, make([]byte, 40), []byte("no proof"), 0)
			return err
		}
	}
	for name, pair := range map[string][2]func() error{
		"token":      {ask("t72-1", known[:10]), ask("t72-1", "aaaaaaaaaa")},
		"cluster":    {ask("t72-there", known[:10]), ask("t72-nowhere", known[:10])},
		"enrollment": {poll(enrolled.ID), poll("t72-there-aaaa-bbbb-cccc")},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, pair[0]().Error(), pair[1]().Error(), "code and text")
			const samples = 200
			var took [2][]time.Duration
			for i := range 2 * samples { // in turn, so that both see the same machine
				begun := time.Now()
				require.Error(t, pair[i%2]())
				took[i%2] = append(took[i%2], time.Since(begun))
			}
			d := distance(took[0], took[1])
			t.Logf("distance of Kolmogorov and Smirnov: %.2f of %d samples each", d, samples)
			require.Less(t, d, 0.5, "%v", took)
		})
	}
}

// distance is the two-sample statistic of Kolmogorov and Smirnov: 0 for equal
// distributions, 1 for those that do not overlap.
func distance(a, b []time.Duration) float64 {
	below := func(of []time.Duration, x time.Duration) float64 {
		n := 0
		for _, d := range of {
			if d <= x {
				n++
			}
		}
		return float64(n) / float64(len(of))
	}
	most := 0.0
	for _, x := range slices.Concat(a, b) {
		most = max(most, below(a, x)-below(b, x), below(b, x)-below(a, x))
	}
	return most
}

// A token's labels are those of the cluster that the hub makes for it. With them it
// still counts as untouched: denied, it goes.
func TestTokensGiveLabels(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	given := map[string]string{"env": "prod", "example.com/site": "north"}
	answer, err := s.Enroll(t.Context(), newMachine(t, "labelled-1").request(token(t, s, enroll.Policy{ClusterName: "labelled-1", ClusterLabels: given})))
	require.NoError(t, err)
	require.Equal(t, given, h.cluster(t, "labelled-1").Labels)
	require.NoError(t, s.Deny(t.Context(), h.admin, enroll.Choice{ID: answer.ID}, "not ours"))
	err = h.admin.Get(t.Context(), client.ObjectKey{Name: "labelled-1"}, &clusterv1.ManagedCluster{})
	require.True(t, apierrors.IsNotFound(err), "denied, it goes: %v", err)

	tokens, err := s.Tokens().List(t.Context())
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(tokens, func(t enroll.Token) bool {
		return t.Policy.ClusterName == "labelled-1" && t.Policy.ClusterLabels["env"] == "prod"
	}))
	tooMany := map[string]string{}
	for i := range 33 {
		tooMany[fmt.Sprintf("l%d", i)] = ""
	}
	for name, labels := range map[string]map[string]string{
		"no key":   {"a b": "c"},
		"no value": {"a": "b c"},
		"a set":    {"cluster.open-cluster-management.io/clusterset": "prod"},
		"OCM's":    {identity.ClusterNameLabel: "x"},
		"ours":     {"fairlead.dev/x": "y"},
		"too many": tooMany,
	} {
		_, _, err := s.Tokens().Create(t.Context(), enroll.Policy{ClusterName: "a", ClusterLabels: labels}, "alice")
		require.ErrorIs(t, err, &enroll.Error{Reason: reason.InvalidArgument}, name)
	}
}
