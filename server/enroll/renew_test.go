// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"context"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
)

// theEnrollment is the one enrollment of a cluster.
func (h *hub) theEnrollment(t *testing.T, cluster string) *v1alpha1.ClusterEnrollment {
	t.Helper()
	var list v1alpha1.ClusterEnrollmentList
	require.NoError(t, h.admin.List(t.Context(), &list, client.MatchingLabels{identity.ClusterNameLabel: cluster}))
	require.Len(t, list.Items, 1)
	return &list.Items[0]
}

// signNext does what the controllers do once a renewal of that key is recorded.
func (h *hub) signNext(t *testing.T, name, key string) *x509.Certificate {
	t.Helper()
	require.Eventually(t, func() bool {
		e := h.enrollment(t, name)
		if e.Status.Next == nil || e.Status.Next.KeySHA256 != key {
			return false
		}
		return h.admin.Get(t.Context(), client.ObjectKey{Name: e.Status.Next.CSRName}, newCSR()) == nil
	}, wait, tick)
	return h.sign(t, name, key, time.Hour)
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := h.active(t, s, "auth-1")
	e := h.theEnrollment(t, "auth-1")
	require.Equal(t, v1alpha1.StateActive, e.Status.State, "first use")

	verified, err := s.Authenticate(t.Context(), m.cert)
	require.NoError(t, err)
	require.Equal(t, identity.Agent{Cluster: "auth-1", Name: "a", HubID: hubID, UID: e.Spec.ManagedClusterUID}, verified.Agent)
	require.Equal(t, e.Name, verified.Enrollment)

	cluster := h.cluster(t, "auth-1")
	cluster.Spec.HubAcceptsClient = false
	require.NoError(t, h.admin.Update(t.Context(), cluster))
	require.Eventually(t, func() bool {
		_, err = s.Check(t.Context(), m.cert)
		return err != nil
	}, wait, tick)
	requireReason(t, err, reason.NotAccepted)
	e = h.theEnrollment(t, "auth-1")
	e.SetState(v1alpha1.StateRevoked, reason.NotAccepted, "", metav1.Now()) // as a controller notes it
	require.NoError(t, h.admin.Status().Update(t.Context(), e))
	_, err = s.Check(t.Context(), m.cert)
	requireReason(t, err, reason.NotAccepted)
	cluster.Spec.HubAcceptsClient = true
	require.NoError(t, h.admin.Update(t.Context(), cluster))
	_, err = s.Authenticate(t.Context(), m.cert)
	require.NoError(t, err, "RC-18: accepted again, with no new enrollment, and no wait for a cache")

	e = h.theEnrollment(t, "auth-1")
	e.Status.RevokedSerials = []string{pki.Serial(m.cert)}
	require.NoError(t, h.admin.Status().Update(t.Context(), e))
	require.Eventually(t, func() bool {
		_, err = s.Check(t.Context(), m.cert)
		return err != nil
	}, wait, tick)
	requireReason(t, err, reason.Revoked)
}

func TestAuthenticateRefusesForeignCertificates(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := h.active(t, s, "foreign-1")
	uid := h.theEnrollment(t, "foreign-1").Spec.ManagedClusterUID
	certificate := func(id identity.Agent, lifetime time.Duration) *x509.Certificate {
		template := &x509.Certificate{
			Subject: identity.Subject(id.Cluster, id.Name), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		template.URIs = append(template.URIs, id.URI())
		cert, err := h.ca.Issue(template, m.key.Public())
		require.NoError(t, err)
		return cert
	}
	otherKey := *m.cert
	otherKey.RawSubjectPublicKeyInfo = h.ca.Cert.RawSubjectPublicKeyInfo
	cases := map[string]struct {
		reason string
		cert   *x509.Certificate
		want   string
	}{
		"T48 another hub":     {reason: "same authority name, another hub-id", cert: certificate(identity.Agent{Cluster: "foreign-1", Name: "a", HubID: "hub-x", UID: uid}, time.Hour), want: reason.CertificateError},
		"T62 another UID":     {reason: "name reused", cert: certificate(identity.Agent{Cluster: "foreign-1", Name: "a", HubID: hubID, UID: "gone"}, time.Hour), want: reason.UIDMismatch},
		"unknown cluster":     {reason: "absent is not removed", cert: certificate(identity.Agent{Cluster: "foreign-9", Name: "a", HubID: hubID, UID: uid}, time.Hour), want: reason.UnknownCluster},
		"unknown serial":      {reason: "signed, but never recorded", cert: certificate(identity.Agent{Cluster: "foreign-1", Name: "a", HubID: hubID, UID: uid}, time.Hour), want: reason.SerialMismatch},
		"other agent":         {reason: "another agent of the cluster", cert: certificate(identity.Agent{Cluster: "foreign-1", Name: "b", HubID: hubID, UID: uid}, time.Hour), want: reason.SerialMismatch},
		"T66 another key":     {reason: "a serial counts with its key", cert: &otherKey, want: reason.SerialMismatch},
		"T46 expired":         {reason: "checked at every use", cert: certificate(identity.Agent{Cluster: "foreign-1", Name: "a", HubID: hubID, UID: uid}, -time.Minute), want: reason.CertificateExpired},
		"not an agent at all": {reason: "no OCM subject", cert: h.ca.Cert, want: reason.CertificateError},
	}
	for name, tc := range cases {
		_, err := s.Authenticate(t.Context(), tc.cert)
		var refused *enroll.Error
		require.ErrorAs(t, err, &refused, "%s: %s", name, tc.reason)
		require.Equal(t, tc.want, refused.Reason, "%s: %s", name, tc.reason)
	}
	condition := meta.FindStatusCondition(h.cluster(t, "foreign-1").Status.Conditions, enroll.ConditionCertificateCloned)
	require.NotNil(t, condition)
	require.Equal(t, metav1.ConditionTrue, condition.Status)
	_, err := s.Authenticate(t.Context(), m.cert)
	require.NoError(t, err, "the real one is undisturbed")
}

func TestT62_the_old_certificate_of_a_recreated_cluster_is_refused(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := h.active(t, s, "reborn-1")
	e := h.theEnrollment(t, "reborn-1")
	require.NoError(t, h.admin.Delete(t.Context(), h.cluster(t, "reborn-1")))
	var err error
	require.Eventually(t, func() bool {
		_, err = s.Check(t.Context(), m.cert)
		return err != nil
	}, wait, tick)
	requireReason(t, err, reason.UnknownCluster)

	now := metav1.Now()
	e.Status.ClusterRemoved = &now
	require.NoError(t, h.admin.Status().Update(t.Context(), e))
	_, err = s.Check(t.Context(), m.cert)
	requireReason(t, err, reason.ClusterRemoved)

	fresh := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: "reborn-1"}, Spec: clusterv1.ManagedClusterSpec{HubAcceptsClient: true}}
	require.NoError(t, h.admin.Create(t.Context(), fresh))
	require.Eventually(t, func() bool {
		_, err = s.Authenticate(t.Context(), m.cert)
		return !enrollIs(err, reason.ClusterRemoved)
	}, wait, tick)
	requireReason(t, err, reason.UIDMismatch)
}

func TestRenewKeepsCurrentAndNext(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := h.active(t, s, "renew-1")
	name := h.theEnrollment(t, "renew-1").Name
	next := newMachine(t, "renew-1")

	var group sync.WaitGroup
	var answers [2]enroll.Enrollment
	var errs [2]error
	for i := range answers { // the same request twice, as after a lost reply
		group.Go(func() { answers[i], errs[i] = s.Renew(t.Context(), m.cert, next.csr) })
	}
	next.cert = h.signNext(t, name, next.keySHA256(t))
	group.Wait()
	for i := range answers {
		require.NoError(t, errs[i])
		require.Equal(t, string(pki.EncodeCertificates(next.cert)), string(answers[i].Chain))
	}
	again, err := s.Renew(t.Context(), m.cert, next.csr)
	require.NoError(t, err, "T43: a reply that was lost is given again")
	require.Equal(t, answers[0].Chain, again.Chain)

	_, err = s.Authenticate(t.Context(), m.cert)
	require.NoError(t, err, "the old one is good until the new one is used")
	_, err = s.Authenticate(t.Context(), next.cert)
	require.NoError(t, err)
	e := h.enrollment(t, name)
	require.Equal(t, pki.Serial(next.cert), e.Status.Current.Serial)
	require.Nil(t, e.Status.Next)
	require.Eventually(t, func() bool {
		_, err = s.Check(t.Context(), m.cert)
		return err != nil
	}, wait, tick)
	requireReason(t, err, reason.SerialMismatch)
	require.Nil(t, meta.FindStatusCondition(h.cluster(t, "renew-1").Status.Conditions, enroll.ConditionCertificateCloned), "the minute check of the ending session marks nothing")
}

func TestT44_two_renewals_leave_one_next(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := h.active(t, s, "twice-1")
	name := h.theEnrollment(t, "twice-1").Name
	lost, kept := newMachine(t, "twice-1"), newMachine(t, "twice-1")
	var group sync.WaitGroup
	asked := newMachine(t, "twice-1")
	var replaced error
	group.Go(func() { _, replaced = s.Renew(t.Context(), m.cert, asked.csr) })
	require.Eventually(t, func() bool {
		next := h.enrollment(t, name).Status.Next
		return next != nil && next.KeySHA256 == asked.keySHA256(t)
	}, wait, tick)
	begun := time.Now()
	group.Go(func() { _, _ = s.Renew(t.Context(), m.cert, lost.csr) })
	lost.cert = h.signNext(t, name, lost.keySHA256(t)) // the agent dies before it stores it
	group.Wait()
	requireReason(t, replaced, reason.Conflict)
	require.Less(t, time.Since(begun), 20*time.Second, "who asked with a key that another took the place of is told so, and not by its deadline")
	var err error
	group.Go(func() { _, err = s.Renew(t.Context(), m.cert, kept.csr) })
	require.Eventually(t, func() bool {
		next := h.enrollment(t, name).Status.Next
		return next != nil && next.KeySHA256 == kept.keySHA256(t)
	}, wait, tick)
	kept.cert = h.signNext(t, name, kept.keySHA256(t))
	group.Wait()
	require.NoError(t, err)
	_, err = s.Authenticate(t.Context(), kept.cert)
	require.NoError(t, err)
	_, err = s.Check(t.Context(), lost.cert)
	requireReason(t, err, reason.SerialMismatch)
}

// A request that was denied is no reason to ask with the same key for ever.
func TestDeniedRenewal(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := h.active(t, s, "denied-renewal-1")
	next := newMachine(t, "denied-renewal-1")
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _, _ = s.Renew(ctx, m.cert, next.csr) })
	csr := newCSR()
	require.Eventually(t, func() bool {
		e := h.theEnrollment(t, "denied-renewal-1")
		return e.Status.Next != nil && h.admin.Get(t.Context(), client.ObjectKey{Name: e.Status.Next.CSRName}, csr) == nil
	}, wait, tick)
	cancel()
	group.Wait()
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue, Reason: "Person", Message: "not today",
	})
	require.NoError(t, h.admin.SubResource("approval").Update(t.Context(), csr))
	_, err := s.Renew(t.Context(), m.cert, next.csr)
	requireReason(t, err, reason.InvalidCSR)
	require.ErrorContains(t, err, "not today")
	_, err = s.Authenticate(t.Context(), m.cert)
	require.NoError(t, err, "what is in use stays good")
}

// A brake on requests of one cluster, for an agent that went mad (RA-09 as ours).
func TestRenewalLimit(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, func(cfg *enroll.Config) { cfg.Limits.RenewalsPerMinute = 2 })
	t.Run("RA-09_too_many_renewals_are_refused", func(t *testing.T) {
		m := h.active(t, s, "brake-1")
		name := h.theEnrollment(t, "brake-1").Name
		for range 2 {
			next := newMachine(t, "brake-1")
			var group sync.WaitGroup
			group.Go(func() { _, _ = s.Renew(t.Context(), m.cert, next.csr) })
			h.signNext(t, name, next.keySHA256(t))
			group.Wait()
		}
		before := h.enrollment(t, name)
		_, err := s.Renew(t.Context(), m.cert, newMachine(t, "brake-1").csr)
		requireReason(t, err, reason.RateLimited)
		require.Equal(t, before.Status, h.enrollment(t, name).Status, "nothing is written for it")
		_, err = s.Authenticate(t.Context(), m.cert)
		require.NoError(t, err, "what is in use stays good")
	})
}

func TestRenewRefusals(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := h.active(t, s, "norenew-1")
	other := h.active(t, s, "norenew-2")
	first := m
	second := h.renewed(t, s, first)
	m = h.renewed(t, s, second)
	before := h.theEnrollment(t, "norenew-1").Status.Next
	cases := map[string]struct {
		reason string
		csr    []byte
	}{
		"T50 first key":   {reason: "a renewal brings a new key", csr: first.csr},
		"T50 earlier key": {reason: "a renewal brings a new key", csr: second.csr},
		"T50 same key":    {reason: "a renewal brings a new key", csr: m.csr},
		"another cluster": {reason: "nobody asks for others", csr: other.csr},
		"garbage":         {reason: "not a request", csr: []byte("x")},
	}
	for name, tc := range cases {
		_, err := s.Renew(t.Context(), m.cert, tc.csr)
		var refused *enroll.Error
		require.ErrorAs(t, err, &refused, "%s: %s", name, tc.reason)
		require.Equal(t, reason.InvalidCSR, refused.Reason)
	}
	require.Equal(t, before, h.theEnrollment(t, "norenew-1").Status.Next)
}

func TestDetachNeedsNobodyOnTheHub(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := h.replica(t, nil)
	m := h.active(t, s, "detach-1")
	cluster := h.cluster(t, "detach-1")
	cluster.Spec.HubAcceptsClient = false
	require.NoError(t, h.admin.Update(t.Context(), cluster))
	for range 2 {
		require.NoError(t, s.Detach(t.Context(), m.cert, "moving away"))
	}
	e := h.theEnrollment(t, "detach-1")
	require.Equal(t, v1alpha1.StateDetached, e.Status.State)
	require.Equal(t, "moving away", e.Status.Message)
	var err error
	require.Eventually(t, func() bool {
		_, err = s.Check(t.Context(), m.cert)
		return enrollIs(err, reason.EnrollmentEnded)
	}, wait, tick)
}
