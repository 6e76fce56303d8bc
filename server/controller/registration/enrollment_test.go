// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // the functions of the tables are tests, not helpers
package registration_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// TestEnrollment has the life of a ClusterEnrollment, and each of its ends.
func TestEnrollment(t *testing.T) {
	h := theHub(t)
	for name, test := range map[string]func(*testing.T, *hub){
		"pending_until_a_person_decides":                  pending,
		"accepted_and_approved_is_issued":                 issued,
		"plain_kubectl_does_the_same":                     plainKubectl,
		"approval_alone_is_half":                          approvalAlone,
		"acceptance_alone_is_half":                        acceptanceAlone,
		"denied_request_denies_and_removes_the_untouched": deniedRequest,
		"a_touched_cluster_stays":                         touchedStays,
		"another_pending_one_is_denied_on_acceptance":     overtaken,
		"the_replaced_one_stays_active":                   replacing,
		"RC-18_denial_suspends_and_acceptance_restores":   suspended,
		"deletion_revokes_and_is_remembered":              removed,
		"T62_a_namesake_gets_no_certificate":              recreated,
		"RC-21_auto_accept_once":                          autoAccept,
		"RC-21_auto_accept_yields_to_an_earlier_denial":   autoAcceptYields,
		"auto_accept_of_an_accepted_cluster_approves":     autoAcceptAccepted,
		"no_write_without_change":                         enrollmentNoWrite,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

func madeBy(enrollment string) func(*clusterv1.ManagedCluster) {
	return func(c *clusterv1.ManagedCluster) {
		c.Annotations = map[string]string{v1alpha1.AnnotationMadeBy: enrollment}
	}
}

func pending(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, false))
	h.settleEnrollments(t)
	require.Empty(t, h.readCSR(t, a.name).Status.Conditions)
	require.Equal(t, v1alpha1.StatePending, a.read(t).Status.State)
}

func issued(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, false), func(e *v1alpha1.ClusterEnrollment, _ *certificatesv1.CertificateSigningRequest) {
		e.Annotations = map[string]string{v1alpha1.AnnotationDecidedBy: "alice"}
	})
	h.accept(t, a.cluster.Name, true)
	a.approve(t)
	e := a.await(t, v1alpha1.StateIssued, "CertificateIssued")
	require.Equal(t, "alice", e.Status.AcceptedBy)
	require.True(t, meta.IsStatusConditionTrue(e.Status.Conditions, "Accepted"))
	require.Nil(t, e.Status.Next)

	csr := h.readCSR(t, a.name)
	require.Equal(t, csr.Status.Certificate, e.Status.Current.Chain, "what people see is what is recorded")
	certs, err := pki.ParseCertificates(e.Status.Current.Chain)
	require.NoError(t, err)
	leaf := certs[0]
	require.Equal(t, a.hash, pki.KeySHA256(leaf.RawSubjectPublicKeyInfo))
	require.Equal(t, v1alpha1.Certificate{
		KeySHA256: a.hash, CSRName: a.name, Serial: pki.Serial(leaf), NotAfter: e.Status.Current.NotAfter, Chain: csr.Status.Certificate,
	}, *e.Status.Current)
	require.WithinDuration(t, leaf.NotAfter, e.Status.Current.NotAfter.Time, 0)
	id, err := identity.ParseCertificate(leaf)
	require.NoError(t, err)
	require.Equal(t, identity.Agent{Cluster: a.cluster.Name, Name: "agent", HubID: hubID, UID: string(a.cluster.UID)}, id)
	for _, word := range []string{"EnrollmentAccepted", "ClientCertificateCreated"} {
		h.awaitEvent(t, a.cluster.Name, word)
	}
}

func plainKubectl(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, false))
	_, err := h.plane.Kubectl(t.Context(), "patch", "mcl", a.cluster.Name, "--type=merge", "-p", `{"spec":{"hubAcceptsClient":true}}`)
	require.NoError(t, err)
	_, err = h.plane.Kubectl(t.Context(), "certificate", "approve", a.name)
	require.NoError(t, err)
	a.await(t, v1alpha1.StateIssued, "")
	out, err := h.plane.Kubectl(t.Context(), "get", "csr", a.name)
	require.NoError(t, err)
	require.Contains(t, out, "Approved,Issued")
}

func approvalAlone(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, false))
	a.approve(t)
	h.settleEnrollments(t)
	require.Equal(t, v1alpha1.StatePending, a.read(t).Status.State)
	require.Empty(t, h.readCSR(t, a.name).Status.Certificate)
	require.Zero(t, h.signer.signed(a.cluster.Name))
}

func acceptanceAlone(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, false))
	h.accept(t, a.cluster.Name, true)
	h.settleEnrollments(t)
	require.Equal(t, v1alpha1.StatePending, a.read(t).Status.State)
	require.Empty(t, h.readCSR(t, a.name).Status.Conditions, "nobody approved this key")
}

func deniedRequest(t *testing.T, h *hub) {
	a := h.enrollMade(t)
	a.deny(t)
	e := a.await(t, v1alpha1.StateDenied, "NotOurs")
	require.Contains(t, e.Status.Message, "said by a person")
	h.awaitGone(t, a.cluster)
	h.awaitEvent(t, a.cluster.Name, "EnrollmentDenied")
}

// enrollMade is an enrollment for which the hub has made the ManagedCluster,
// which names it before it exists.
func (h *hub) enrollMade(t *testing.T) *enrolled {
	t.Helper()
	const name = "to-be-named"
	cluster := h.cluster(t, false, madeBy(name))
	return h.enroll(t, cluster, func(e *v1alpha1.ClusterEnrollment, csr *certificatesv1.CertificateSigningRequest) {
		require.NoError(t, h.admin.Delete(t.Context(), cluster))
		fresh := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: cluster.Name}}
		madeBy(e.Name)(fresh)
		require.NoError(t, h.admin.Create(t.Context(), fresh))
		e.Spec.ManagedClusterUID = string(fresh.UID)
		*cluster = *fresh
	})
}

func touchedStays(t *testing.T, h *hub) {
	a := h.enrollMade(t)
	h.update(t, a.cluster.Name, func(c *clusterv1.ManagedCluster) { c.Labels = map[string]string{"env": "prod"} })
	a.deny(t)
	a.await(t, v1alpha1.StateDenied, "NotOurs")
	h.settleEnrollments(t)
	require.False(t, h.absent(t, a.cluster))
}

func overtaken(t *testing.T, h *hub) {
	cluster := h.cluster(t, false)
	first, second := h.enroll(t, cluster), h.enroll(t, cluster)
	first.await(t, v1alpha1.StatePending, "")
	second.await(t, v1alpha1.StatePending, "")
	h.accept(t, cluster.Name, true)
	second.approve(t)
	second.await(t, v1alpha1.StateIssued, "")
	require.Contains(t, first.await(t, v1alpha1.StateDenied, reason.Superseded).Status.Message, second.name)
	first.approve(t) // too late
	h.settleEnrollments(t)
	require.Empty(t, h.readCSR(t, first.name).Status.Certificate)
	require.EqualValues(t, 1, h.signer.signed(cluster.Name))
}

func replacing(t *testing.T, h *hub) {
	old := h.join(t)
	old.use(t)
	// A re-enroll token lets the cluster in again, a second or more later.
	eventually(t, func(c *assert.CollectT) {
		accepted := meta.FindStatusCondition(old.read(t).Status.Conditions, "Accepted")
		require.Greater(c, time.Since(accepted.LastTransitionTime.Time), 1100*time.Millisecond)
	})
	fresh := h.enroll(t, old.cluster, func(e *v1alpha1.ClusterEnrollment, _ *certificatesv1.CertificateSigningRequest) {
		e.Spec.ReplacesIssued = true
	})
	fresh.await(t, v1alpha1.StatePending, "")
	fresh.approve(t)
	fresh.await(t, v1alpha1.StateIssued, "")
	require.Equal(t, v1alpha1.StateActive, old.read(t).Status.State, "until the new one is used")
}

func suspended(t *testing.T, h *hub) {
	active, unused := h.join(t), (*enrolled)(nil)
	active.use(t)
	serial := active.read(t).Status.Current.Serial
	t.Run("unused", func(t *testing.T) { unused = h.join(t) })
	for _, a := range []*enrolled{active, unused} {
		before := a.read(t).Status.State
		h.accept(t, a.cluster.Name, false)
		a.await(t, v1alpha1.StateRevoked, reason.NotAccepted)
		h.awaitEvent(t, a.cluster.Name, "EnrollmentRevoked")
		h.accept(t, a.cluster.Name, true)
		a.await(t, before, "AcceptedAgain")
	}
	require.Equal(t, serial, active.read(t).Status.Current.Serial, "no new enrolment")
}

func removed(t *testing.T, h *hub) {
	a := h.join(t)
	a.use(t)
	work := h.work(t, a.cluster.Name, "w")
	require.NoError(t, h.admin.Delete(t.Context(), a.cluster))
	eventually(t, func(c *assert.CollectT) {
		e := &v1alpha1.ClusterEnrollment{}
		require.NoError(c, h.admin.Get(t.Context(), client.ObjectKey{Name: a.name}, e))
		require.NotNil(c, e.Status.ClusterRemoved)
		require.Equal(c, v1alpha1.StateActive, e.Status.State, "the agent has works to see off")
	})
	h.finish(t, work)
	h.awaitGone(t, a.cluster)
	require.NotNil(t, a.await(t, v1alpha1.StateRevoked, reason.ClusterRemoved).Status.ClusterRemoved)
}

func recreated(t *testing.T, h *hub) {
	waiting := h.enroll(t, h.cluster(t, false))
	waiting.await(t, v1alpha1.StatePending, "")
	require.NoError(t, h.admin.Delete(t.Context(), waiting.cluster))
	h.awaitGone(t, waiting.cluster.DeepCopy())
	namesake := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: waiting.cluster.Name}}
	namesake.Spec.HubAcceptsClient = true
	require.NoError(t, h.admin.Create(t.Context(), namesake))
	waiting.approve(t)
	eventually(t, func(c *assert.CollectT) { require.True(c, waiting.read(t).Status.State.Final()) })
	require.Contains(t, []string{reason.UIDMismatch, reason.UnknownCluster}, waiting.read(t).Status.Reason)
	require.Empty(t, h.readCSR(t, waiting.name).Status.Certificate)

	// The same where the hub never saw the name without a cluster.
	late := h.enroll(t, namesake, func(e *v1alpha1.ClusterEnrollment, _ *certificatesv1.CertificateSigningRequest) {
		e.Spec.ManagedClusterUID = string(waiting.cluster.UID)
	})
	late.await(t, v1alpha1.StateDenied, reason.UIDMismatch)
	late.approve(t)
	late.look(t)
	h.settleEnrollments(t)
	require.Empty(t, h.readCSR(t, late.name).Status.Certificate)
	require.Zero(t, h.signer.signed(waiting.cluster.Name))
}

func auto(e *v1alpha1.ClusterEnrollment, _ *certificatesv1.CertificateSigningRequest) {
	e.Spec.AutoAccept = &v1alpha1.AutoAccept{By: "bob"}
}

func autoAccept(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, false), auto)
	e := a.await(t, v1alpha1.StateIssued, "")
	require.Equal(t, "bob", e.Status.AcceptedBy)
	cluster := get(t, h, "", a.cluster.Name, &clusterv1.ManagedCluster{})
	require.True(t, cluster.Spec.HubAcceptsClient)
	_, err := time.Parse(time.RFC3339, cluster.Annotations["open-cluster-management.io/automatically-accepted-on"])
	require.NoError(t, err)
	approved := csrCondition(h.readCSR(t, a.name), certificatesv1.CertificateApproved)
	require.Equal(t, "AutoApprovedByJoinToken", approved.Reason)
	require.Contains(t, approved.Message, "bob")
	h.awaitEvent(t, a.cluster.Name, "ManagedClusterAutoApproved")

	h.accept(t, a.cluster.Name, false) // a later denial sticks, also against another auto-accept token
	a.await(t, v1alpha1.StateRevoked, reason.NotAccepted)
	again := h.enroll(t, a.cluster, auto)
	eventually(t, func(c *assert.CollectT) {
		require.True(c, meta.IsStatusConditionFalse(again.read(t).Status.Conditions, "Accepted"))
	})
	h.settleEnrollments(t)
	require.Equal(t, v1alpha1.StatePending, again.read(t).Status.State)
	require.False(t, get(t, h, "", a.cluster.Name, cluster).Spec.HubAcceptsClient)
	require.Empty(t, h.readCSR(t, again.name).Status.Conditions)
}

func autoAcceptYields(t *testing.T, h *hub) {
	cluster := h.cluster(t, true) // by a person, who takes it back
	h.accept(t, cluster.Name, false)
	h.awaitCondition(t, cluster.Name, metav1.ConditionFalse, "HubClusterAdminDenied")
	a := h.enroll(t, cluster, auto)
	eventually(t, func(c *assert.CollectT) {
		found := meta.FindStatusCondition(a.read(t).Status.Conditions, "Accepted")
		require.NotNil(c, found)
		require.Equal(c, "DeniedBefore", found.Reason)
	})
	require.False(t, get(t, h, "", cluster.Name, &clusterv1.ManagedCluster{}).Spec.HubAcceptsClient)
	h.accept(t, cluster.Name, true) // a person's word counts, and the token then does the rest
	a.await(t, v1alpha1.StateIssued, "")
}

func autoAcceptAccepted(t *testing.T, h *hub) {
	cluster := h.cluster(t, true)
	a := h.enroll(t, cluster, auto)
	a.await(t, v1alpha1.StateIssued, "")
	require.NotContains(t, get(t, h, "", cluster.Name, &clusterv1.ManagedCluster{}).Annotations, "open-cluster-management.io/automatically-accepted-on")
}

func enrollmentNoWrite(t *testing.T, h *hub) {
	a := h.join(t)
	a.use(t)
	before := a.read(t).ResourceVersion
	csr := h.readCSR(t, a.name).ResourceVersion
	h.update(t, a.cluster.Name, func(c *clusterv1.ManagedCluster) { c.Spec.LeaseDurationSeconds = 90 })
	h.settleEnrollments(t)
	require.Equal(t, before, a.read(t).ResourceVersion)
	require.Equal(t, csr, h.readCSR(t, a.name).ResourceVersion)
}

// TestEnrollmentExpires moves the hub's clock, so it runs alone.
func TestEnrollmentExpires(t *testing.T) {
	h := theHub(t)
	var waiting, unused, used *enrolled
	t.Run("pending", func(t *testing.T) { waiting = h.enrollMade(t) })
	t.Run("unused", func(t *testing.T) { unused = h.join(t) })
	t.Run("used", func(t *testing.T) { used = h.join(t) })
	used.use(t)
	t.Cleanup(func() { h.clock.offset.Store(0) })
	for _, step := range []struct {
		after          time.Duration
		waiting, other v1alpha1.EnrollmentState
	}{
		{55 * time.Minute, v1alpha1.StatePending, v1alpha1.StateIssued},
		{65 * time.Minute, v1alpha1.StateExpired, v1alpha1.StateIssued},
		{23 * time.Hour, v1alpha1.StateExpired, v1alpha1.StateIssued},
		{25 * time.Hour, v1alpha1.StateExpired, v1alpha1.StateExpired},
	} {
		h.clock.offset.Store(int64(step.after))
		for _, a := range []*enrolled{waiting, unused, used} { // the timers run on real time: look now
			a.look(t)
		}
		waiting.await(t, step.waiting, "")
		unused.await(t, step.other, "")
	}
	t.Run("RA-19_RA-14_an_expired_certificate", func(t *testing.T) { outOfTime(t, used) })
	h.awaitEvent(t, waiting.cluster.Name, "EnrollmentExpired")
	h.awaitGone(t, waiting.cluster) // nobody had touched it
	require.False(t, h.absent(t, unused.cluster), "a person had accepted it")
}

// TestT56_an_explicit_denial_stands against whatever would accept by itself, and
// an Event says so, once.
func TestT56_an_explicit_denial_stands(t *testing.T) {
	t.Run("against_a_join_token", func(t *testing.T) { denialStands(t, theHub(t)) })
}

func denialStands(t *testing.T, h *hub) {
	cluster := h.cluster(t, true)
	h.awaitAccepted(t, cluster.Name)
	h.accept(t, cluster.Name, false)
	h.awaitCondition(t, cluster.Name, metav1.ConditionFalse, "HubClusterAdminDenied")
	a := h.enroll(t, cluster, auto)
	h.awaitEvent(t, cluster.Name, "ManagedClusterAutoApprovalSkipped")
	a.look(t)
	h.settleEnrollments(t)
	require.False(t, get(t, h, "", cluster.Name, &clusterv1.ManagedCluster{}).Spec.HubAcceptsClient)
	require.Empty(t, h.readCSR(t, a.name).Status.Conditions)
	require.Equal(t, v1alpha1.StatePending, a.read(t).Status.State)
}

// TestDetached says on the ManagedCluster that its spoke has left, until it has
// enrolled again.
func TestDetached(t *testing.T) {
	t.Run("and_back", func(t *testing.T) { detachedAndBack(t, theHub(t)) })
}

func detachedAndBack(t *testing.T, h *hub) {
	a := h.join(t)
	a.use(t)
	status := func(c *assert.CollectT, want metav1.ConditionStatus) {
		cluster := &clusterv1.ManagedCluster{}
		require.NoError(c, h.admin.Get(t.Context(), client.ObjectKey{Name: a.cluster.Name}, cluster))
		found := meta.FindStatusCondition(cluster.Status.Conditions, "Detached")
		require.NotNil(c, found)
		require.Equal(c, want, found.Status)
	}
	a.patch(t, func(e *v1alpha1.ClusterEnrollment) {
		e.SetState(v1alpha1.StateDetached, "DetachedBySpoke", "moving away", metav1.NewTime(h.clock.Now()))
	})
	eventually(t, func(c *assert.CollectT) { status(c, metav1.ConditionTrue) })
	h.awaitEvent(t, a.cluster.Name, "ManagedClusterDetached")
	again := h.enroll(t, a.cluster)
	again.approve(t)
	again.await(t, v1alpha1.StateIssued, "")
	eventually(t, func(c *assert.CollectT) { status(c, metav1.ConditionFalse) })
}

// outOfTime is an agent that was off for longer than its certificate lives. The
// hub says what to do, and a clock that was wrong ends nothing for good.
func outOfTime(t *testing.T, used *enrolled) {
	h, command := used.h, "fairlead token create "+used.cluster.Name+" --re-enroll"
	e := used.await(t, v1alpha1.StateExpired, v1alpha1.ReasonCertificateExpired)
	require.Contains(t, e.Status.Message, command)
	h.awaitEvent(t, used.cluster.Name, "EnrollmentExpired")
	rotated := h.awaitRotated(t, used.cluster.Name, metav1.ConditionFalse, "ClientCertificateExpired")
	require.Contains(t, rotated.Message, command)
	require.False(t, h.absent(t, used.cluster))
	h.clock.offset.Store(0)
	used.look(t)
	used.await(t, v1alpha1.StateActive, "CertificateValid")
	h.awaitRotated(t, used.cluster.Name, metav1.ConditionTrue, "ClientCertificateUpdated")
}
