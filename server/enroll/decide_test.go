// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
	"fairlead.dev/fairlead/test/env"
)

func (h *hub) csr(t *testing.T, name string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	csr := &certificatesv1.CertificateSigningRequest{}
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Name: name}, csr))
	return csr
}

func pending(t *testing.T, s *enroll.Service, cluster string) (*machine, enroll.Enrollment) {
	t.Helper()
	m := newMachine(t, cluster)
	answer, err := s.Enroll(t.Context(), m.request(token(t, s, enroll.Policy{ClusterName: cluster})))
	require.NoError(t, err)
	return m, answer
}

func TestAcceptWritesAsThePerson(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	_, answer := pending(t, s, "accept-1")
	bob := h.person(t, "bob-accepts", accepter()...)
	for range 2 { // accepting again does no harm
		e, err := s.Accept(t.Context(), bob, enroll.Choice{Cluster: "accept-1", PairingCode: " " + answer.PairingCode[:4] + answer.PairingCode[5:]})
		require.NoError(t, err, "as typed: spaces and dashes do not matter")
		require.Equal(t, v1alpha1.StateAccepted, e.Status.State)
		require.Equal(t, "bob-accepts", e.Status.AcceptedBy)
		require.True(t, meta.IsStatusConditionTrue(e.Status.Conditions, v1alpha1.ConditionAccepted))
	}
	require.True(t, h.cluster(t, "accept-1").Spec.HubAcceptsClient)
	conditions := h.csr(t, answer.ID).Status.Conditions
	require.Len(t, conditions, 1)
	require.Equal(t, certificatesv1.CertificateApproved, conditions[0].Type)

	writes, err := env.Shared(t).AuditEvents(func(e *auditv1.Event) bool {
		return e.ObjectRef != nil && (e.ObjectRef.Name == "accept-1" && e.Verb == "patch" || e.ObjectRef.Name == answer.ID && e.ObjectRef.Subresource == "approval")
	})
	require.NoError(t, err)
	require.NotEmpty(t, writes)
	for _, write := range writes {
		require.Equal(t, "bob-accepts", write.User.Username, "T70: the audit log names the person on every write that decides")
	}
}

func TestAcceptNeedsEveryRight(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	for i, name := range []string{"no-accept", "no-patch", "no-approval", "no-signer"} {
		cluster := "rights-" + name
		_, answer := pending(t, s, cluster)
		rules := accepter()
		rules = append(rules[:i], rules[i+1:]...)
		_, err := s.Accept(t.Context(), h.person(t, name, rules...), enroll.Choice{ID: answer.ID, PairingCode: answer.PairingCode})
		requireReason(t, err, reason.PermissionDenied)
		require.Empty(t, h.csr(t, answer.ID).Status.Conditions, name)
		require.Equal(t, v1alpha1.StatePending, h.enrollment(t, answer.ID).Status.State)
	}
}

func TestAcceptRefusals(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	_, answer := pending(t, s, "refuse-1")
	cases := map[string]struct {
		reason string
		choice enroll.Choice
		want   string
	}{
		"wrong code":      {reason: "another key's code", choice: enroll.Choice{ID: answer.ID, PairingCode: "AAAA-BBBB-CCCC"}, want: reason.PairingCodeMismatch},
		"no code":         {reason: "acceptance repeats the code", choice: enroll.Choice{ID: answer.ID}, want: reason.PairingCodeMismatch},
		"unknown id":      {reason: "nothing of that name", choice: enroll.Choice{ID: "refuse-1-aaaa-bbbb-cccc", PairingCode: answer.PairingCode}, want: reason.EnrollmentNotFound},
		"unknown cluster": {reason: "nothing waits", choice: enroll.Choice{Cluster: "refuse-9", PairingCode: answer.PairingCode}, want: reason.EnrollmentNotFound},
		"bad name":        {reason: "not a label", choice: enroll.Choice{Cluster: "a/b", PairingCode: answer.PairingCode}, want: reason.InvalidName},
		"nothing":         {reason: "neither id nor cluster", want: reason.InvalidName},
	}
	for name, tc := range cases {
		_, err := s.Accept(t.Context(), h.admin, tc.choice)
		requireReason(t, err, tc.want)
		require.False(t, h.cluster(t, "refuse-1").Spec.HubAcceptsClient, "%s: %s", name, tc.reason)
	}

	t.Run("the cluster was made anew since", func(t *testing.T) {
		require.NoError(t, h.admin.Delete(t.Context(), h.cluster(t, "refuse-1")))
		fresh := &clusterv1.ManagedCluster{}
		fresh.Name = "refuse-1"
		require.NoError(t, h.admin.Create(t.Context(), fresh))
		_, err := s.Accept(t.Context(), h.admin, enroll.Choice{ID: answer.ID, PairingCode: answer.PairingCode})
		requireReason(t, err, reason.UIDMismatch)
		require.False(t, h.cluster(t, "refuse-1").Spec.HubAcceptsClient)
	})
	t.Run("another key joined first", func(t *testing.T) {
		_, slow := pending(t, s, "refuse-2")
		h.active(t, s, "refuse-2")
		_, err := s.Accept(t.Context(), h.admin, enroll.Choice{ID: slow.ID, PairingCode: slow.PairingCode})
		requireReason(t, err, reason.ClusterExists)
	})
}

func TestDenyRemovesWhatTheHubMade(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m, answer := pending(t, s, "deny-1")
	bob := h.person(t, "bob-denies", accepter()...)
	for range 2 {
		require.NoError(t, s.Deny(t.Context(), bob, enroll.Choice{ID: answer.ID}, "who is this?"))
	}
	require.Equal(t, v1alpha1.StateDenied, h.enrollment(t, answer.ID).Status.State)
	require.Equal(t, certificatesv1.CertificateDenied, h.csr(t, answer.ID).Status.Conditions[0].Type)
	err := h.admin.Get(t.Context(), client.ObjectKey{Name: "deny-1"}, &clusterv1.ManagedCluster{})
	require.True(t, apierrors.IsNotFound(err))

	told, err := m.get(t, s, answer, time.Second)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // once this replica's cache has seen it
		told, err = m.get(t, s, told, time.Second)
		require.NoError(t, err)
		return told.State == v1alpha1.StateDenied
	}, wait, tick)
	require.Contains(t, told.Message, "who is this?")
	_, err = s.Accept(t.Context(), h.admin, enroll.Choice{ID: answer.ID, PairingCode: answer.PairingCode})
	requireReason(t, err, reason.EnrollmentEnded)
}

func TestDenyKeepsWhatSomebodyElseNeeds(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	cases := map[string]struct {
		reason string
		touch  func(t *testing.T)
	}{
		"kept-labelled": {reason: "a person labelled it", touch: func(t *testing.T) {
			t.Helper()
			cluster := h.cluster(t, "kept-labelled")
			cluster.Labels = map[string]string{"env": "prod"}
			require.NoError(t, h.admin.Update(t.Context(), cluster))
		}},
		"kept-shared": {reason: "another key waits for the same cluster", touch: func(t *testing.T) { t.Helper(); pending(t, s, "kept-shared") }},
	}
	for cluster, tc := range cases {
		t.Run(cluster, func(t *testing.T) {
			_, answer := pending(t, s, cluster)
			tc.touch(t)
			require.NoError(t, s.Deny(t.Context(), h.admin, enroll.Choice{ID: answer.ID}, "no"))
			require.NotEmpty(t, h.cluster(t, cluster).UID, tc.reason)
		})
	}
	active := h.active(t, s, "kept-active")
	var enrollments v1alpha1.ClusterEnrollmentList
	require.NoError(t, h.admin.List(t.Context(), &enrollments, client.MatchingLabels{"open-cluster-management.io/cluster-name": active.cluster}))
	requireReason(t, s.Deny(t.Context(), h.admin, enroll.Choice{ID: enrollments.Items[0].Name}, "no"), reason.EnrollmentEnded)
}

func TestGetWaitsForTheCertificate(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s, other := h.replica(t, nil), h.replica(t, nil)
	m, answer := pending(t, s, "poll-1")
	type result struct {
		enroll.Enrollment
		err error
	}
	results := make(chan result)
	go func() {
		told, err := m.get(t, other, answer, time.Minute) //nolint:testifylint // it only reports, and the test reads what it told
		results <- result{told, err}
	}()
	_, err := s.Accept(t.Context(), h.admin, enroll.Choice{ID: answer.ID, PairingCode: answer.PairingCode})
	require.NoError(t, err)
	cert := h.sign(t, answer.ID, m.keySHA256(t), time.Hour)
	told := <-results
	require.NoError(t, told.err, "a challenge of one replica is good at another")
	require.Equal(t, v1alpha1.StateIssued, told.State)
	require.Contains(t, string(told.Chain), "BEGIN CERTIFICATE")
	require.WithinDuration(t, cert.NotAfter, told.NotAfter, time.Second)
	left := time.Until(told.RenewAfter)
	require.Greater(t, left, 35*time.Minute, "60 % of an hour")
	require.Less(t, left, 43*time.Minute, "70 % of an hour")
}

func TestGetRefusesAndReturns(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	clk := fakeClock()
	s := h.replica(t, func(cfg *enroll.Config) { cfg.Clock = clk })
	m, answer := pending(t, s, "poll-2")

	told, err := m.get(t, s, answer, 10*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, v1alpha1.StatePending, told.State, "after its wait it tells the state")
	require.NotEmpty(t, told.Challenge)

	_, err = newMachine(t, "poll-2").get(t, s, answer, 0)
	requireReason(t, err, reason.InvalidProof)
	forged := answer
	forged.ID = "poll-3-aaaa-bbbb-cccc"
	_, err = m.get(t, s, forged, 0)
	requireReason(t, err, reason.InvalidProof)
	forged = answer
	forged.Challenge = append([]byte{}, answer.Challenge...)
	forged.Challenge[3]++ // a later time
	_, err = m.get(t, s, forged, 0)
	requireReason(t, err, reason.InvalidProof)

	older := make(chan error)
	go func() {
		_, err := m.get(t, s, answer, time.Minute) //nolint:testifylint // it only reports, and the test reads what it told
		older <- err
	}()
	require.Eventually(t, func() bool { return s.OpenPolls() == 1 }, wait, tick)
	_, err = m.get(t, s, answer, 10*time.Millisecond)
	require.NoError(t, err)
	require.NoError(t, <-older, "a newer poll ends the older one at once")
	require.Zero(t, s.OpenPolls())

	clk.Step(3 * time.Minute)
	_, err = m.get(t, s, answer, 0)
	requireReason(t, err, reason.InvalidProof)
}
