// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
)

// renewed takes a machine to its next certificate, and that into use.
func (h *hub) renewed(t *testing.T, s *enroll.Service, m *machine) *machine {
	t.Helper()
	next := newMachine(t, m.cluster)
	var group sync.WaitGroup
	group.Go(func() { _, _ = s.Renew(t.Context(), m.cert, next.csr) })
	next.cert = h.signNext(t, h.theEnrollment(t, m.cluster).Name, next.keySHA256(t))
	group.Wait()
	_, err := s.Authenticate(t.Context(), next.cert)
	require.NoError(t, err)
	return next
}

// alarmed renews with a stolen certificate, and has the agent come back.
func (h *hub) alarmed(t *testing.T, s *enroll.Service, cluster string) (own, thief *machine) {
	t.Helper()
	own = h.active(t, s, cluster)
	thief = h.renewed(t, s, own)
	var err error
	require.Eventually(t, func() bool { // once the cache has the first use of the next one
		_, err = s.Authenticate(t.Context(), own.cert)
		return err != nil
	}, wait, tick)
	requireReason(t, err, reason.CertificateClone)
	return own, thief
}

func (h *hub) clonedCondition(t *testing.T, cluster string) *metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(h.cluster(t, cluster).Status.Conditions, enroll.ConditionCertificateCloned)
	require.NotNil(t, c)
	return c
}

func TestT66_second_use_of_the_older_serial(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s, other := h.replica(t, nil), h.replica(t, nil)
	began := time.Now()
	own, thief := h.alarmed(t, s, "cloned-1")
	condition := h.clonedCondition(t, "cloned-1")
	require.Equal(t, metav1.ConditionTrue, condition.Status)
	require.Equal(t, "OlderSerial", condition.Reason)
	require.Contains(t, condition.Message, "fairlead accept cloned-1 --serial "+pki.Serial(thief.cert))
	require.WithinRange(t, condition.LastTransitionTime.Time, began.Add(-time.Second), time.Now().Add(time.Second))
	for _, m := range []*machine{own, thief} { // sessions of either end by this check, on every replica
		require.Eventually(t, func() bool { _, err := other.Check(t.Context(), m.cert); return enrollIs(err, reason.CertificateClone) }, wait, tick)
	}
	_, err := s.Renew(t.Context(), thief.cert, newMachine(t, "cloned-1").csr)
	requireReason(t, err, reason.CertificateClone)
	e := h.theEnrollment(t, "cloned-1")
	require.True(t, e.Cloned())
	require.Equal(t, []string{pki.Serial(own.cert)}, e.Status.RevokedSerials)
}

func TestT66_a_person_vouches_for_the_current_one(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	copied, agent := h.alarmed(t, s, "cloned-2")
	e, serial := h.theEnrollment(t, "cloned-2"), pki.Serial(agent.cert)
	nobody := h.person(t, "cloned-nobody")
	_, err := s.Vouch(t.Context(), nobody, e.Name, serial)
	requireReason(t, err, reason.PermissionDenied)
	admin := h.person(t, "cloned-admin", accepter()...)
	_, err = s.Vouch(t.Context(), admin, e.Name, pki.Serial(copied.cert))
	requireReason(t, err, reason.SerialMismatch)
	require.ErrorContains(t, err, "--re-enroll")
	for range 2 { // saying it again does no harm
		got, err := s.Vouch(t.Context(), admin, e.Name, serial)
		require.NoError(t, err)
		require.Equal(t, v1alpha1.StateActive, got.Status.State)
		require.Equal(t, "cloned-admin", got.Status.AcceptedBy)
	}
	_, err = s.Authenticate(t.Context(), agent.cert)
	require.NoError(t, err)
	_, err = s.Authenticate(t.Context(), copied.cert)
	requireReason(t, err, reason.Revoked)
	_, err = s.Authenticate(t.Context(), agent.cert)
	require.NoError(t, err, "the copy cannot raise the alarm again")
	require.Equal(t, metav1.ConditionFalse, h.clonedCondition(t, "cloned-2").Status)
}

func TestT66_enrolling_again_ends_both(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	own, thief := h.alarmed(t, s, "cloned-3")
	fresh := newMachine(t, "cloned-3")
	answer, err := s.Enroll(t.Context(), fresh.request(token(t, s, enroll.Policy{ClusterName: "cloned-3", ReEnroll: true})))
	require.NoError(t, err)
	_, err = s.Accept(t.Context(), h.admin, enroll.Choice{ID: answer.ID, PairingCode: answer.PairingCode})
	require.NoError(t, err)
	fresh.cert = h.sign(t, answer.ID, fresh.keySHA256(t), time.Hour)
	_, err = s.Authenticate(t.Context(), fresh.cert)
	require.NoError(t, err)
	for _, m := range []*machine{own, thief} {
		_, err = s.Authenticate(t.Context(), m.cert)
		requireReason(t, err, reason.Revoked)
	}
	_, err = s.Authenticate(t.Context(), fresh.cert)
	require.NoError(t, err)
	require.Equal(t, metav1.ConditionFalse, h.clonedCondition(t, "cloned-3").Status)
}
