// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/env"
)

func realClock() clock.PassiveClock { return clock.RealClock{} }

// hub is a namespace in which replicas of one hub live.
type hub struct {
	t         *testing.T
	namespace string
	clients   kubernetes.Interface
}

var hubNumber atomic.Int64

func newHub(t *testing.T) hub {
	t.Helper()
	clients, err := kubernetes.NewForConfig(env.Shared(t).RESTConfig())
	require.NoError(t, err)
	h := hub{t: t, namespace: fmt.Sprintf("hub-%d", hubNumber.Add(1)), clients: clients}
	_, err = clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return h
}

// replica is a running Sessions and what it was told to end.
type replica struct {
	*Sessions
	stop func()

	mu   sync.Mutex
	lost []Lost
}

func (h hub) replica(id string, cfg *rest.Config, c clock.PassiveClock) *replica {
	h.t.Helper()
	s, err := NewSessions(SessionsConfig{Config: cfg, Namespace: h.namespace, Replica: id, AdminAddress: id + ":8444", Clock: c})
	require.NoError(h.t, err)
	r := &replica{Sessions: s}
	s.OnLost(func(l Lost) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lost = append(r.lost, l)
	})
	r.stop = runs(h.t, s.Run)
	eventually(h.t, "the replica is ready", s.Synced)
	return r
}

func (r *replica) losses() []Lost {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Lost(nil), r.lost...)
}

func claim(session, instance string) SessionClaim {
	return SessionClaim{SessionID: session, InstanceID: instance, Fingerprint: "fp-1", AgentID: "agent-1", Remote: "10.0.0.1:4711"}
}

// seen waits until a replica's cache shows a session.
func (r *replica) seen(t testing.TB, cluster, session string) Session {
	t.Helper()
	var s Session
	eventually(t, "the cache shows session "+session, func() bool {
		s, _ = r.Get(cluster)
		return s.SessionID == session
	})
	return s
}

func TestSessions_take_and_release(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	proxy := env.StartProxy(t, env.Shared(t).RESTConfig())
	a := h.replica("a", proxy.RESTConfig(), nil)
	b := h.replica("b", env.Shared(t).RESTConfig(), nil)
	scope := scopeOf("spoke-1", "mc-1")

	g, err := a.Take(t.Context(), scope, claim("s1", "i1"))
	require.NoError(t, err)
	require.EqualValues(t, 1, g.Epoch())
	require.NotEmpty(t, g.LeaseUID())
	require.True(t, a.Held(g))
	require.NoError(t, a.Check(t.Context(), g))
	require.NoError(t, b.Check(t.Context(), g), "true on any replica")
	s := b.seen(t, "spoke-1", "s1")
	eventually(t, "b knows replica a", func() bool { s, _ = b.Get("spoke-1"); return s.Live })
	require.Equal(t, "a", s.Replica)
	require.Equal(t, "a:8444", s.AdminAddress)
	require.Equal(t, "fp-1", s.Fingerprint)

	lastSeen := time.Now().Add(-3 * time.Second)
	require.NoError(t, a.Release(t.Context(), g, lastSeen))
	require.ErrorIs(t, a.Check(t.Context(), g), ErrFenced)
	eventually(t, "b sees the release", func() bool { s, _ = b.Get("spoke-1"); return s.Replica == "" })
	require.True(t, s.LastSeen.Equal(lastSeen))
	require.NoError(t, a.Release(t.Context(), g, time.Now()), "twice is harmless")
	require.Empty(t, a.losses(), "one's own release is no loss")

	a.seen(t, "spoke-1", "s1")
	eventually(t, "a sees its own release", func() bool { s, _ := a.Get("spoke-1"); return s.Replica == "" })
	proxy.ResetCounts()
	g, err = a.Take(t.Context(), scope, claim("s2", "i2"))
	require.NoError(t, err)
	require.EqualValues(t, 2, g.Epoch())
	leases := env.Match{Resources: []string{"leases"}, Name: "session-spoke-1"}
	require.Equal(t, 1, proxy.Count(leases), "one write and nothing else")
	require.Len(t, b.List(), 1)
}

func TestSessions_newer_instance_wins_on_any_replica(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	a := h.replica("a", env.Shared(t).RESTConfig(), nil)
	b := h.replica("b", env.Shared(t).RESTConfig(), nil)
	scope := scopeOf("spoke-1", "mc-1")
	first, err := a.Take(t.Context(), scope, claim("s1", "i1"))
	require.NoError(t, err)

	second, err := b.Take(t.Context(), scope, claim("s2", "i2"))
	require.NoError(t, err)
	eventually(t, "a is told", func() bool { return len(a.losses()) == 1 })
	require.Equal(t, reason.Superseded, a.losses()[0].Reason)
	require.Equal(t, "s1", a.losses()[0].SessionID)
	require.ErrorIs(t, a.Check(t.Context(), first), ErrFenced)
	require.False(t, a.Held(first))
	require.NoError(t, a.Release(t.Context(), first, time.Now()))
	require.NoError(t, b.Check(t.Context(), second), "a late release of the loser takes nothing away")

	third, err := b.Take(t.Context(), scope, claim("s3", "i2"))
	require.NoError(t, err)
	eventually(t, "b is told of its own", func() bool { return len(b.losses()) == 1 && b.losses()[0].SessionID == "s2" })
	require.ErrorIs(t, b.Check(t.Context(), second), ErrFenced)
	require.Greater(t, third.Epoch(), second.Epoch())
}

func TestSessions_compare_and_swap(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	a := h.replica("a", env.Shared(t).RESTConfig(), nil)
	b := h.replica("b", env.Shared(t).RESTConfig(), nil)
	scope := scopeOf("spoke-1", "mc-1")
	var mu sync.Mutex
	var grants []Grant
	var racing sync.WaitGroup
	for i := range 10 {
		for _, r := range []*replica{a, b} {
			racing.Go(func() {
				g, err := r.Take(t.Context(), scope, claim(fmt.Sprintf("s-%s-%d", r.config.Replica, i), "same-instance"))
				if err != nil {
					return // beaten five times, or by a newer one of the same replica
				}
				mu.Lock()
				defer mu.Unlock()
				grants = append(grants, g)
			})
		}
	}
	racing.Wait()
	owners, epochs := 0, map[uint64]bool{}
	for _, g := range grants {
		if a.Check(t.Context(), g) == nil {
			owners++
		}
		require.False(t, epochs[g.Epoch()], "no two sessions with one epoch")
		epochs[g.Epoch()] = true
	}
	require.LessOrEqual(t, owners, 1)
	eventually(t, "all others are told", func() bool {
		held := 0
		for _, g := range grants {
			if a.Held(g) || b.Held(g) {
				held++
			}
		}
		return held == owners
	})
}

func TestSessions_T60_identity_in_two_clusters(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	now := clocktesting.NewFakePassiveClock(time.Now())
	a := h.replica("a", env.Shared(t).RESTConfig(), nil)
	b := h.replica("b", env.Shared(t).RESTConfig(), now)
	scope := scopeOf("spoke-1", "mc-1")
	g, err := a.Take(t.Context(), scope, claim("s1", "i1"))
	require.NoError(t, err)
	b.seen(t, "spoke-1", "s1")
	eventually(t, "b knows replica a", func() bool { s, _ := b.Get("spoke-1"); return s.Live })

	clone := claim("s2", "i2")
	clone.Fingerprint, clone.AgentID, clone.Remote = "fp-2", "agent-2", "10.9.9.9:1"
	for _, r := range []*replica{a, b} {
		_, err = r.Take(t.Context(), scope, clone)
		var duplicate *DuplicateError
		require.ErrorAs(t, err, &duplicate)
		require.Equal(t, "fp-1", duplicate.Holder.Fingerprint)
		require.Equal(t, "fp-2", duplicate.Newcomer.Fingerprint)
		require.ErrorContains(t, err, "10.9.9.9:1")
		require.ErrorContains(t, err, "10.0.0.1:4711")
	}
	require.NoError(t, a.Check(t.Context(), g), "the first one is undisturbed")

	_, err = b.Take(t.Context(), scopeOf("spoke-1", "mc-2"), clone)
	require.NoError(t, err, "another ManagedCluster of that name has nothing to do with the old one")
	eventually(t, "the session of the cluster that is gone ends", func() bool { return len(a.losses()) == 1 })
}

func TestSessions_of_a_replica_that_died(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	start := time.Now()
	now := clocktesting.NewFakePassiveClock(start)
	a := h.replica("a", env.Shared(t).RESTConfig(), nil)
	b := h.replica("b", env.Shared(t).RESTConfig(), now)
	scope := scopeOf("spoke-1", "mc-1")
	_, err := a.Take(t.Context(), scope, claim("s1", "i1"))
	require.NoError(t, err)
	b.seen(t, "spoke-1", "s1")
	eventually(t, "b knows replica a", func() bool { s, _ := b.Get("spoke-1"); return s.Live })
	b.stop() // so it hears no renewals any more, while its clock goes on
	now.SetTime(start.Add(replicaDuration + time.Second))
	s, _ := b.Get("spoke-1")
	require.False(t, s.Live)
	require.WithinDuration(t, start, s.LastSeen, 10*time.Second, "the last sign of life of its replica")
	clone := claim("s2", "i2")
	clone.Fingerprint = "fp-2"
	_, err = b.Take(t.Context(), scope, clone)
	require.NoError(t, err, "a dead owner keeps nobody out")
}

func TestSessions_sign_off(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	a := h.replica("a", env.Shared(t).RESTConfig(), nil)
	b := h.replica("b", env.Shared(t).RESTConfig(), nil)
	eventually(t, "both are known", func() bool { return len(b.Replicas()) == 2 && b.Replicas()[0].Live })
	require.Equal(t, "a:8444", b.Replicas()[0].AdminAddress)
	require.WithinDuration(t, time.Now(), a.LastRenew(), 10*time.Second)
	a.stop()
	eventually(t, "a has signed off", func() bool { return !b.Replicas()[0].Live })
}

func TestSessions_flapping(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	now := clocktesting.NewFakePassiveClock(time.Now())
	a := h.replica("a", env.Shared(t).RESTConfig(), now)
	scope := scopeOf("spoke-1", "mc-1")
	take := func(n int, instance string) error {
		session := fmt.Sprintf("s%d", n)
		_, err := a.Take(t.Context(), scope, claim(session, instance))
		if err == nil {
			a.seen(t, "spoke-1", session)
		}
		return err
	}
	for n := range 10 {
		require.NoError(t, take(n, "same"), "an agent on a bad network takes nothing from itself")
	}
	require.Zero(t, a.Takeovers("spoke-1"))
	for n := 10; n < 14; n++ {
		require.NoError(t, take(n, strconv.Itoa(n%2)))
		eventually(t, "the takeover is noted", func() bool { return a.Takeovers("spoke-1") == n-9 })
	}
	err := take(14, "0")
	var flapping *FlappingError
	require.ErrorAs(t, err, &flapping)
	require.Positive(t, flapping.RetryAfter)
	require.LessOrEqual(t, flapping.RetryAfter, takeoverPause)
	require.NoError(t, take(15, "1"), "the owner may reconnect")
	now.SetTime(now.Now().Add(takeoverPause + time.Second))
	require.NoError(t, take(16, "0"), "one a minute")
	eventually(t, "it is noted", func() bool { return a.Takeovers("spoke-1") == 5 })
	require.ErrorAs(t, take(17, "1"), &flapping)
	now.SetTime(now.Now().Add(takeoverWindow))
	require.NoError(t, take(18, "1"))
}

func TestSessions_kick(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	a := h.replica("a", env.Shared(t).RESTConfig(), nil)
	b := h.replica("b", env.Shared(t).RESTConfig(), nil)
	scope := scopeOf("spoke-1", "mc-1")
	g, err := a.Take(t.Context(), scope, claim("s1", "i1"))
	require.NoError(t, err)
	b.seen(t, "spoke-1", "s1")
	_, err = b.Kick(t.Context(), "nobody")
	require.ErrorIs(t, err, ErrNoSession)
	kicked, err := b.Kick(t.Context(), "s1")
	require.NoError(t, err)
	require.Equal(t, "spoke-1", kicked.Cluster)
	eventually(t, "the holder is told", func() bool { return len(a.losses()) > 0 })
	require.Equal(t, Lost{Cluster: "spoke-1", SessionID: "s1", Reason: reason.Kicked, Message: a.losses()[0].Message}, a.losses()[0])
	require.NoError(t, a.Release(t.Context(), g, time.Now()))
	require.NoError(t, b.WaitEnded(t.Context(), "spoke-1", "s1"))
	_, err = b.Kick(t.Context(), "spoke-1")
	require.ErrorIs(t, err, ErrNoSession)
	_, err = a.Take(t.Context(), scope, claim("s2", "i1"))
	require.NoError(t, err)
	require.Len(t, a.losses(), 1, "the kick was for the old session")
}

// A session that is over gives its Lease up later, and not at all when the agent
// has come back by then.
func TestSessions_given_up_before_released(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	proxy := env.StartProxy(t, env.Shared(t).RESTConfig())
	a := h.replica("a", proxy.RESTConfig(), nil)
	b := h.replica("b", env.Shared(t).RESTConfig(), nil)
	scope := scopeOf("spoke-1", "mc-1")
	writes := func() int {
		return proxy.Count(env.Match{Verbs: env.Writes(), Resources: []string{"leases"}, Name: identity.SessionLeaseName("spoke-1")})
	}
	for i := range 6 {
		g, err := a.Take(t.Context(), scope, claim(fmt.Sprint("s", i), fmt.Sprint("i", i)))
		require.NoError(t, err, "each was over before the next came: they take nothing from each other")
		a.seen(t, "spoke-1", g.SessionID())
		a.GiveUp(g, time.Now())
		require.False(t, a.Held(g))
	}
	require.Equal(t, 5, writes(), "and the first, which made it, and has no name in its path")
	require.Zero(t, a.Takeovers("spoke-1"))

	g, err := a.Take(t.Context(), scope, claim("s6", "i6"))
	require.NoError(t, err)
	a.GiveUp(g, time.Now())
	next, err := a.Take(t.Context(), scope, claim("s7", "i6"))
	require.NoError(t, err)
	require.NoError(t, a.Release(t.Context(), g, time.Now()))
	require.Equal(t, 7, writes(), "the agent has come back: there is nothing to give up")
	require.NoError(t, b.Check(t.Context(), next))
	require.Empty(t, a.losses())
	a.GiveUp(next, time.Now())

	b.seen(t, "spoke-1", "s7")
	_, err = b.Kick(t.Context(), "spoke-1")
	require.NoError(t, err)
	eventually(t, "whoever has yet to release is told", func() bool { return len(a.losses()) > 0 })
	require.Equal(t, reason.Kicked, a.losses()[0].Reason)
	require.Equal(t, "s7", a.losses()[0].SessionID)
}

func TestSessions_lease_that_is_deleted(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	a := h.replica("a", env.Shared(t).RESTConfig(), nil)
	g, err := a.Take(t.Context(), scopeOf("spoke-1", "mc-1"), claim("s1", "i1"))
	require.NoError(t, err)
	a.seen(t, "spoke-1", "s1")
	require.NoError(t, h.clients.CoordinationV1().Leases(h.namespace).Delete(t.Context(), identity.SessionLeaseName("spoke-1"), metav1.DeleteOptions{}))
	eventually(t, "the session has to end", func() bool { return len(a.losses()) == 1 })
	require.Equal(t, reason.Fenced, a.losses()[0].Reason)
	require.ErrorIs(t, a.Check(t.Context(), g), ErrFenced)
	again, err := a.Take(t.Context(), scopeOf("spoke-1", "mc-1"), claim("s2", "i1"))
	require.NoError(t, err)
	require.Equal(t, g.Epoch(), again.Epoch(), "a new Lease counts from 1")
	require.ErrorIs(t, a.Check(t.Context(), g), ErrFenced, "so the UID has to be compared too")
}

func TestSessions_spoke_health(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	proxy := env.StartProxy(t, env.Shared(t).RESTConfig())
	a := h.replica("a", proxy.RESTConfig(), nil)
	g, err := a.Take(t.Context(), scopeOf("spoke-1", "mc-1"), claim("s1", "i1"))
	require.NoError(t, err)
	annotation := func() string {
		lease, err := h.clients.CoordinationV1().Leases(h.namespace).Get(t.Context(), identity.SessionLeaseName("spoke-1"), metav1.GetOptions{})
		require.NoError(t, err)
		return lease.Annotations[AnnotationSpokeHealthy]
	}
	writes := func() int {
		return proxy.Count(env.Match{Verbs: env.Writes(), Resources: []string{"leases"}, Name: identity.SessionLeaseName("spoke-1")})
	}
	before := writes()
	require.NoError(t, a.SetSpokeHealthy(t.Context(), g, true))
	require.Equal(t, before, writes(), "healthy is what a Lease says without it")
	require.NoError(t, a.SetSpokeHealthy(t.Context(), g, false))
	require.Equal(t, "false", annotation())
	require.NoError(t, a.SetSpokeHealthy(t.Context(), g, true))
	require.Equal(t, "true", annotation())
	require.NoError(t, a.Release(t.Context(), g, time.Now()))
	require.ErrorIs(t, a.SetSpokeHealthy(t.Context(), g, false), ErrFenced)
}

func TestSessions_release_that_failed_is_made_good(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	proxy := env.StartProxy(t, env.Shared(t).RESTConfig())
	now := clocktesting.NewFakePassiveClock(time.Now())
	a := h.replica("a", proxy.RESTConfig(), now)
	g, err := a.Take(t.Context(), scopeOf("spoke-1", "mc-1"), claim("s1", "i1"))
	require.NoError(t, err)
	a.seen(t, "spoke-1", "s1")
	heal := proxy.Inject(env.Fault{Match: env.Match{Verbs: []string{"update"}, Resources: []string{"leases"}}, Status: 500})
	lastSeen := now.Now()
	require.Error(t, a.Release(t.Context(), g, lastSeen))
	require.False(t, a.Held(g))
	heal()
	now.SetTime(now.Now().Add(2 * orphanedAfter))
	eventually(t, "it is released by itself", func() bool { s, _ := a.Get("spoke-1"); return s.Replica == "" })
	s, _ := a.Get("spoke-1")
	require.True(t, s.LastSeen.Equal(lastSeen))
}

func TestSessions_claims_are_checked(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	a := h.replica("a", env.Shared(t).RESTConfig(), nil)
	_, err := a.Take(t.Context(), identity.Scope{}, claim("s", "i"))
	require.Error(t, err)
	long := claim("s", "i")
	long.AgentID = string(make([]byte, 300))
	_, err = a.Take(t.Context(), scopeOf("spoke-1", "mc"), long)
	require.Error(t, err)
	_, err = a.Take(t.Context(), scopeOf("spoke-1", "mc"), SessionClaim{})
	require.Error(t, err)
	require.ErrorIs(t, a.Check(t.Context(), Grant{}), ErrFenced)
	require.NoError(t, a.Release(t.Context(), Grant{}, time.Now()))
	_, err = NewSessions(SessionsConfig{Config: env.Shared(t).RESTConfig(), Replica: "not/a/label"})
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrFenced)
}
