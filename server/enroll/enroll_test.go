// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/test/env"
)

func TestEnrollMakesTheWholeRequest(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := newMachine(t, "whole-1")
	answer, err := s.Enroll(t.Context(), m.request(token(t, s, enroll.Policy{NamePattern: "whole-*"})))
	require.NoError(t, err)

	spki, err := pki.SPKI(m.key.Public())
	require.NoError(t, err)
	require.Equal(t, identity.PairingCode(spki, "whole-1", hubID), answer.PairingCode, "the agent computes the same code")
	require.Equal(t, identity.EnrollmentName("whole-1", answer.PairingCode), answer.ID)
	require.Equal(t, v1alpha1.StatePending, answer.State)
	require.Equal(t, hubID, answer.HubID)

	cluster := h.cluster(t, "whole-1")
	require.False(t, cluster.Spec.HubAcceptsClient)
	e := h.enrollment(t, answer.ID)
	require.Equal(t, v1alpha1.StatePending, e.Status.State)
	require.Equal(t, string(cluster.UID), e.Spec.ManagedClusterUID)
	require.True(t, e.Spec.MadeManagedCluster)
	require.Equal(t, "192.0.2.7", e.Spec.SourceAddress)
	csr := &certificatesv1.CertificateSigningRequest{}
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Name: answer.ID}, csr))
	require.Equal(t, "system:serviceaccount:open-cluster-management-hub:grpc-server-sa", csr.Spec.Username, "the name that OCM's add-on managers trust")
	require.Equal(t, identity.SignerName, csr.Spec.SignerName)
	require.Equal(t, "system:open-cluster-management:whole-1:a", csr.Annotations[identity.CSRUserAnnotation])
	require.Equal(t, "whole-1", csr.Labels[identity.ClusterNameLabel])

	e.Spec.ClusterName = "other"
	require.ErrorContains(t, h.admin.Update(t.Context(), e), "never change", "the facts are immutable, for anybody")
}

func TestRA04_a_cluster_made_beforehand_is_joined_untouched(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	made := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "beforehand", Labels: map[string]string{"env": "prod"}}}
	require.NoError(t, h.admin.Create(t.Context(), made))
	answer, err := s.Enroll(t.Context(), newMachine(t, "beforehand").request(token(t, s, enroll.Policy{ClusterName: "beforehand"})))
	require.NoError(t, err)
	require.Equal(t, made.ResourceVersion, h.cluster(t, "beforehand").ResourceVersion)
	require.False(t, h.enrollment(t, answer.ID).Spec.MadeManagedCluster)
}

func TestBadRequestsLeaveNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	clk := fakeClock()
	later := h.replica(t, func(cfg *enroll.Config) { cfg.Clock = clk })
	expired := token(t, later, enroll.Policy{NamePattern: "*", TTL: time.Minute})
	clk.Step(2 * time.Minute)
	good := newMachine(t, "bad-1")
	cases := map[string]struct {
		reason string
		on     *enroll.Service
		change func(*enroll.Request)
		policy enroll.Policy
		want   string
	}{
		"upper case": {reason: "not an RFC 1123 label", change: func(r *enroll.Request) { r.Cluster = "Bad-1" }, want: reason.InvalidName},
		"dot":        {reason: "a label, not a domain", change: func(r *enroll.Request) { r.Cluster = "bad.1" }, want: reason.InvalidName},
		"colon":      {reason: "separator of identities", change: func(r *enroll.Request) { r.Cluster = "bad:1" }, want: reason.InvalidName},
		"empty":      {reason: "no name", change: func(r *enroll.Request) { r.Cluster = "" }, want: reason.InvalidName},
		"path":       {reason: "no way out", change: func(r *enroll.Request) { r.Cluster = "../bad" }, want: reason.InvalidName},
		"64 characters": {reason: "longer than a label", change: func(r *enroll.Request) {
			r.Cluster = "a23456789012345678901234567890123456789012345678901234567890abcd"
		}, want: reason.InvalidName},
		"no CSR":             {reason: "nothing to sign", change: func(r *enroll.Request) { r.CSR = nil }, want: reason.InvalidCSR},
		"another's CSR":      {reason: "request and name must agree", change: func(r *enroll.Request) { r.CSR = newMachine(t, "bad-2").csr }, want: reason.InvalidCSR},
		"no token":           {reason: "nothing shown", change: func(r *enroll.Request) { r.Token = "" }, want: reason.InvalidToken},
		"unknown token":      {reason: "an id that does not exist", change: func(r *enroll.Request) { r.Token = "aaaaaaaaaa." + r.Token[11:] }, want: reason.InvalidToken},
		"wrong secret":       {reason: "an id that exists, another secret", change: func(r *enroll.Request) { r.Token = r.Token[:11] + "wrong" }, want: reason.InvalidToken},
		"token as a path":    {reason: "the id names an object", change: func(r *enroll.Request) { r.Token = "../../../x.y" }, want: reason.InvalidToken},
		"other name":         {reason: "the token is for another cluster", policy: enroll.Policy{ClusterName: "bad-9"}, want: reason.NameNotAllowed},
		"other pattern":      {reason: "the pattern does not match", policy: enroll.Policy{NamePattern: "edge-*"}, want: reason.NameNotAllowed},
		"other network":      {reason: "from elsewhere", policy: enroll.Policy{NamePattern: "*", SourceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, want: reason.InvalidToken},
		"expired token":      {reason: "too late", on: later, change: func(r *enroll.Request) { r.Token = expired }, want: reason.TokenExpired},
		"endless agent id":   {reason: "bounded facts", change: func(r *enroll.Request) { r.AgentID = string(make([]byte, 1000)) }, want: reason.InvalidArgument},
		"not a printable id": {reason: "objects hold text", change: func(r *enroll.Request) { r.AgentVersion = "v\x00\xff" }, want: reason.InvalidArgument},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			on := s
			if tc.on != nil {
				on = tc.on
			}
			policy := tc.policy
			if policy.ClusterName == "" && policy.NamePattern == "" {
				policy.NamePattern = "*"
			}
			request := good.request(token(t, on, policy))
			if tc.change != nil {
				tc.change(&request)
			}
			_, err := on.Enroll(t.Context(), request)
			requireReason(t, err, tc.want)
		})
	}
	h.nothingOf(t, "bad-1")
}

func TestT52_one_token_two_keys(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	replicas := []*enroll.Service{h.replica(t, nil), h.replica(t, nil)}
	text := token(t, replicas[0], enroll.Policy{ClusterName: "race-1"})
	const machines = 6
	var errs [machines]error
	var group sync.WaitGroup
	for i := range machines {
		m := newMachine(t, "race-1")
		group.Go(func() { _, errs[i] = replicas[i%2].Enroll(t.Context(), m.request(text)) })
	}
	group.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		requireReason(t, err, reason.TokenUsed)
	}
	require.Equal(t, 1, won, "one use, one key, on any replica")
	var enrollments v1alpha1.ClusterEnrollmentList
	require.NoError(t, h.admin.List(t.Context(), &enrollments, client.MatchingLabels{identity.ClusterNameLabel: "race-1"}))
	require.Len(t, enrollments.Items, 1)
}

func TestT52_a_stolen_token_used_first_is_visible(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	text := token(t, s, enroll.Policy{ClusterName: "stolen-1"})
	thief, honest := newMachine(t, "stolen-1"), newMachine(t, "stolen-1")
	first, err := s.Enroll(t.Context(), thief.request(text))
	require.NoError(t, err)
	require.Eventually(t, func() bool { // the cache of this replica sees the first one
		_, err = s.Enroll(t.Context(), honest.request(text))
		requireReason(t, err, reason.TokenUsed)
		conditions := h.enrollment(t, first.ID).Status.Conditions
		return len(conditions) == 1 && conditions[0].Type == enroll.ConditionTokenConflict
	}, wait, tick)

	spki, err := pki.SPKI(honest.key.Public())
	require.NoError(t, err)
	code := identity.PairingCode(spki, "stolen-1", hubID)
	for _, choice := range []enroll.Choice{{ID: first.ID, PairingCode: code}, {Cluster: "stolen-1", PairingCode: code}, {Cluster: "stolen-1"}} {
		_, err = s.Accept(t.Context(), h.admin, choice)
		requireReason(t, err, reason.PairingCodeMismatch)
	}
	require.False(t, h.cluster(t, "stolen-1").Spec.HubAcceptsClient, "T65: the honest code never accepts the thief's key")
}

func TestT43_lost_replies_cost_nothing(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s, other := h.replica(t, nil), h.replica(t, nil)
	clk := fakeClock()
	later := h.replica(t, func(cfg *enroll.Config) { cfg.Clock = clk })
	text := token(t, s, enroll.Policy{ClusterName: "lost-1", TTL: time.Minute})
	m := newMachine(t, "lost-1")
	first, err := s.Enroll(t.Context(), m.request(text))
	require.NoError(t, err)
	for i := range 20 {
		again, err := []*enroll.Service{s, other}[i%2].Enroll(t.Context(), m.request(text))
		require.NoError(t, err)
		require.Equal(t, first.ID, again.ID)
	}
	clk.Step(time.Hour)
	again, err := later.Enroll(t.Context(), m.request(text))
	require.NoError(t, err, "the same key may repeat the call after the token has expired")
	require.Equal(t, first.ID, again.ID)
	tokens, err := s.Tokens().List(t.Context())
	require.NoError(t, err)
	for _, token := range tokens {
		if token.ID == text[:10] {
			require.Len(t, token.Uses, 1)
			require.Zero(t, token.UsesLeft())
		}
	}
}

// A crash after any write of Enroll leaves what an equal request completes.
func TestT43_a_crash_between_any_two_writes_is_finished_by_a_retry(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for writes := range 4 {
		name := "crash-" + string(rune('0'+writes))
		budget := &writeBudget{left: writes}
		broken := h.replica(t, func(cfg *enroll.Config) {
			cfg.Hub, cfg.Agents = budget.wrap(h.admin), budget.wrap(h.agents)
		})
		s := h.replica(t, nil)
		m := newMachine(t, name)
		text := token(t, s, enroll.Policy{ClusterName: name})
		_, err := broken.Enroll(t.Context(), m.request(text))
		require.ErrorIs(t, err, errCrashed, "after %d writes", writes)

		answer, err := s.Enroll(t.Context(), m.request(text))
		require.NoError(t, err, "after %d writes", writes)
		e := h.enrollment(t, answer.ID)
		require.True(t, e.Spec.MadeManagedCluster, "after %d writes: the hub still knows that it made the cluster", writes)
		require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Name: answer.ID}, &certificatesv1.CertificateSigningRequest{}))
	}
}

func TestClusterExists(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	old := h.active(t, s, "exists-1")
	intruder := newMachine(t, "exists-1")
	text := token(t, s, enroll.Policy{NamePattern: "exists-*"})
	require.Eventually(t, func() bool {
		_, err := s.Enroll(t.Context(), intruder.request(text))
		requireReason(t, err, reason.ClusterExists)
		return true
	}, wait, tick)
	tokens, err := s.Tokens().List(t.Context())
	require.NoError(t, err)
	for _, token := range tokens {
		require.False(t, token.ID == text[:10] && len(token.Uses) > 0, "what is refused uses nothing up")
	}

	fresh := newMachine(t, "exists-1")
	answer, err := s.Enroll(t.Context(), fresh.request(token(t, s, enroll.Policy{ClusterName: "exists-1", ReEnroll: true})))
	require.NoError(t, err, "a re-enroll token gets in")
	_, err = s.Authenticate(t.Context(), old.cert)
	require.NoError(t, err, "the old certificate is good until the new one is used")
	_, err = s.Accept(t.Context(), h.admin, enroll.Choice{ID: answer.ID, PairingCode: answer.PairingCode})
	require.NoError(t, err)
	_, err = s.Authenticate(t.Context(), h.sign(t, answer.ID, fresh.keySHA256(t), time.Hour))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err = s.Authenticate(t.Context(), old.cert)
		return err != nil
	}, wait, tick)
	requireReason(t, err, reason.Revoked)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	clk := fakeClock()
	t.Run("per source", func(t *testing.T) {
		s := h.replica(t, func(cfg *enroll.Config) { cfg.Limits = enroll.Limits{Pending: -1}; cfg.Clock = clk })
		text := token(t, s, enroll.Policy{NamePattern: "limit-*", MaxUses: 3})
		known := newMachine(t, "limit-0")
		_, err := s.Enroll(t.Context(), known.request(text))
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			before := s.Limited(netip.MustParseAddr("192.0.2.7"))
			_, err := s.Enroll(t.Context(), known.request(text))
			require.NoError(t, err)
			return s.Limited(netip.MustParseAddr("192.0.2.7")) == before
		}, wait, tick, "repeats by the same key are free once this replica knows it")
		for range 10 {
			_, err = s.Enroll(t.Context(), newMachine(t, "elsewhere").request(text))
		}
		requireReason(t, err, reason.RateLimited)
		var refused *enroll.Error
		require.ErrorAs(t, err, &refused)
		require.Positive(t, refused.RetryAfter)
		other := newMachine(t, "limit-1").request(text)
		other.Source = netip.MustParseAddr("192.0.2.8")
		_, err = s.Enroll(t.Context(), other)
		require.NoError(t, err, "other sources are not affected")
	})
	t.Run("failures per token id", func(t *testing.T) {
		s := h.replica(t, func(cfg *enroll.Config) {
			cfg.Limits = enroll.Limits{Pending: -1, SourcePerMinute: -1}
			cfg.Clock = clk
		})
		text := token(t, s, enroll.Policy{NamePattern: "guess-*"})
		request := newMachine(t, "guess-1").request(text[:11] + "guess")
		for range 10 {
			_, err := s.Enroll(t.Context(), request)
			requireReason(t, err, reason.InvalidToken)
		}
		_, err := s.Enroll(t.Context(), request)
		requireReason(t, err, reason.RateLimited)
		clk.Step(time.Hour)
		_, err = s.Enroll(t.Context(), newMachine(t, "guess-1").request(text[:11]+"guess"))
		requireReason(t, err, reason.InvalidToken)
	})
	t.Run("pending", func(t *testing.T) {
		s := h.replica(t, nil)
		text := token(t, s, enroll.Policy{NamePattern: "many-*", MaxUses: 5})
		_, err := s.Enroll(t.Context(), newMachine(t, "many-0").request(text))
		require.NoError(t, err)
		full := h.replica(t, func(cfg *enroll.Config) { cfg.Limits = enroll.Limits{Pending: 1, SourcePerMinute: -1} })
		_, err = full.Enroll(t.Context(), newMachine(t, "many-1").request(text))
		requireReason(t, err, reason.TooManyPending)
		h.nothingOf(t, "many-1")
	})
}

func TestT51_a_request_that_somebody_else_made_is_never_taken_for_ours(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := newMachine(t, "forged-1")
	spki, err := pki.SPKI(m.key.Public())
	require.NoError(t, err)
	name := identity.EnrollmentName("forged-1", identity.PairingCode(spki, "forged-1", hubID))
	require.NoError(t, h.admin.Create(t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{identity.CSRUserAnnotation: "system:open-cluster-management:forged-1:a"}},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pki.EncodeCSR(newMachine(t, "forged-1").csr), SignerName: identity.SignerName, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		},
	}))
	_, err = s.Enroll(t.Context(), m.request(token(t, s, enroll.Policy{ClusterName: "forged-1"})))
	requireReason(t, err, reason.Conflict)
	_, err = s.Accept(t.Context(), h.admin, enroll.Choice{ID: name, PairingCode: identity.PairingCode(spki, "forged-1", hubID)})
	requireReason(t, err, reason.Conflict)
}

func TestTokensAreStoredHashed(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	created, text, err := s.Tokens().Create(t.Context(), enroll.Policy{ClusterName: "hashed-1", SourceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, "alice")
	require.NoError(t, err)
	secret := &corev1.Secret{}
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: "fairlead-jointoken-" + created.ID}, secret))
	for key, value := range secret.Data {
		require.NotContains(t, string(value), text[11:], key)
	}
	tokens, err := s.Tokens().List(t.Context())
	require.NoError(t, err)
	require.Contains(t, tokens, enroll.Token{
		ID: created.ID, CreatedBy: "alice", Created: created.Created, Expires: created.Created.Add(time.Hour), Uses: []enroll.Use{},
		Policy: enroll.Policy{ClusterName: "hashed-1", TTL: time.Hour, MaxUses: 1, SourceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	})
	require.NoError(t, s.Tokens().Revoke(t.Context(), created.ID))
	requireReason(t, s.Tokens().Revoke(t.Context(), created.ID), reason.NotFound)
	requireReason(t, s.Tokens().Revoke(t.Context(), "../x"), reason.NotFound)
	_, err = s.Enroll(t.Context(), newMachine(t, "hashed-1").request(text))
	requireReason(t, err, reason.InvalidToken)

	for name, policy := range map[string]enroll.Policy{
		"nothing":        {},
		"both":           {ClusterName: "a", NamePattern: "b"},
		"too long":       {ClusterName: "a", TTL: 25 * time.Hour},
		"bad pattern":    {NamePattern: "["},
		"slash":          {NamePattern: "a/*"},
		"too many":       {NamePattern: "*", MaxUses: 1_000_000},
		"re-enroll any":  {NamePattern: "*", ReEnroll: true},
		"bad name":       {ClusterName: "A"},
		"negative":       {ClusterName: "a", TTL: -1},
		"negative count": {ClusterName: "a", MaxUses: -1},
	} {
		_, _, err := s.Tokens().Create(t.Context(), policy, "alice")
		require.ErrorAs(t, err, new(*enroll.Error), name)
	}
}

func TestExpiredTokensAreSwept(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	clk := fakeClock()
	tokens := enroll.NewTokens(h.admin, "default", clk)
	_, _, err := tokens.Create(t.Context(), enroll.Policy{ClusterName: "a", TTL: time.Hour}, "alice")
	require.NoError(t, err)
	_, _, err = tokens.Create(t.Context(), enroll.Policy{ClusterName: "b", TTL: 24 * time.Hour}, "alice")
	require.NoError(t, err)
	clk.Step(3 * time.Hour)
	require.NoError(t, tokens.Sweep(t.Context(), time.Hour))
	left, err := tokens.List(t.Context())
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, "b", left[0].Policy.ClusterName)
	clk.Step(48 * time.Hour)
	require.NoError(t, tokens.Sweep(t.Context(), 0))
}

func TestT49_enrolling_touches_only_objects_of_that_cluster(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	_, err := s.Enroll(t.Context(), newMachine(t, "scope-1").request(token(t, s, enroll.Policy{ClusterName: "scope-1"})))
	require.NoError(t, err)
	events, err := env.Shared(t).AuditEvents(func(e *auditv1.Event) bool {
		return e.User.Username == "system:serviceaccount:open-cluster-management-hub:grpc-server-sa" && e.ObjectRef != nil && e.ObjectRef.Resource == "secrets"
	})
	require.NoError(t, err)
	require.Empty(t, events, "the identity that acts for agents never touches a Secret")
}
