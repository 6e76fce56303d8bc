// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

//nolint:thelper // the functions of the tables are tests, not helpers
package registration_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// TestSigning has who gets a certificate, and who never does.
func TestSigning(t *testing.T) {
	h := theHub(t)
	for name, test := range map[string]func(*testing.T, *hub){
		"RC-26_RA-14_RA-16_renewal_is_approved_and_signed":        renewal,
		"RC-24_renewal_of_another_label_is_left_alone":            renewalLabel,
		"RC-27_a_longer_cluster_name_is_another_cluster":          renewalPrefix,
		"RC-24_an_unrecorded_key_is_left_alone":                   renewalKey,
		"RC-29_RA-15_a_denied_renewal_is_left_alone_and_said":     renewalDenied,
		"RC-25_acceptance_decides_and_no_review":                  renewalOfDenied,
		"RC-28_approved_without_a_person_only_by_token":           approvedByToken,
		"RC-30_who_asks_counts_and_no_annotation":                 forged,
		"T50_a_request_with_names_is_failed_and_denied":           invalid,
		"RC-31_RA-08_the_lifetime_is_the_signer's":                lifetimes,
		"the_signer_refuses_for_good":                             signerRefuses,
		"the_signer_fails_for_a_while":                            signerFails,
		"a_crash_between_the_two_writes_is_recovered":             recovered,
		"an_external_certificate_is_used_unchanged":               external,
		"an_external_certificate_without_uri_is_bound_by_the_UID": externalWithoutURI,
		"an_external_certificate_for_another_key_denies":          externalOtherKey,
		"an_external_certificate_of_another_cluster_denies":       externalOtherCluster,
		"an_external_certificate_that_is_no_client_s_denies":      externalServer,
		"an_external_certificate_of_another_authority_denies":     externalUntrusted,
		"a_bad_external_certificate_fails_a_renewal":              externalRenewal,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

// TestT51_requests_that_others_made: see also RC-30 above.
func TestT51_requests_that_others_made(t *testing.T) {
	h := theHub(t)
	t.Run("beforehand_under_the_name", func(t *testing.T) { squatted(t, h) })
}

func renewal(t *testing.T, h *hub) {
	a := h.join(t)
	a.use(t)
	current := *a.read(t).Status.Current
	key, name := a.renew(t)
	eventually(t, func(c *assert.CollectT) {
		e := a.read(t)
		require.NotNil(c, e.Status.Next)
		require.NotEmpty(c, e.Status.Next.Serial)
	})
	e := a.read(t)
	require.Equal(t, v1alpha1.StateActive, e.Status.State)
	require.Equal(t, current, *e.Status.Current, "stays current until the next is used")
	certs, err := pki.ParseCertificates(e.Status.Next.Chain)
	require.NoError(t, err)
	spki, err := pki.SPKI(key.Public())
	require.NoError(t, err)
	require.Equal(t, pki.KeySHA256(spki), pki.KeySHA256(certs[0].RawSubjectPublicKeyInfo))
	require.Equal(t, pki.Serial(certs[0]), e.Status.Next.Serial)
	approved := csrCondition(h.readCSR(t, name), certificatesv1.CertificateApproved)
	require.Equal(t, "AutoApprovedByHubCSRApprovingController", approved.Reason)
	h.awaitEvent(t, a.cluster.Name, "ManagedClusterCSRAutoApproved")
	h.awaitEvent(t, a.cluster.Name, "ClientCertificateCreated")
	rotated := h.awaitRotated(t, a.cluster.Name, metav1.ConditionTrue, "ClientCertificateUpdated")
	require.Contains(t, rotated.Message, current.Serial)
	a.patch(t, func(e *v1alpha1.ClusterEnrollment) { e.Status.Current, e.Status.Next = e.Status.Next, nil }) // first use
	eventually(t, func(c *assert.CollectT) {
		rotated := h.awaitRotated(t, a.cluster.Name, metav1.ConditionTrue, "ClientCertificateUpdated")
		require.Contains(c, rotated.Message, e.Status.Next.Serial)
		require.Contains(c, rotated.Message, certs[0].NotAfter.UTC().Format(time.RFC3339))
	})
}

// awaitRotated waits for the condition that tells of the agent's certificate.
func (h *hub) awaitRotated(t *testing.T, cluster string, status metav1.ConditionStatus, why string) metav1.Condition {
	t.Helper()
	var found metav1.Condition
	eventually(t, func(c *assert.CollectT) {
		got := &clusterv1.ManagedCluster{}
		require.NoError(c, h.admin.Get(t.Context(), client.ObjectKey{Name: cluster}, got))
		condition := meta.FindStatusCondition(got.Status.Conditions, "ClusterCertificateRotated")
		require.NotNil(c, condition)
		require.Equal(c, status, condition.Status, "%+v", condition)
		require.Equal(c, why, condition.Reason, "%+v", condition)
		found = *condition
	})
	return found
}

// untouched asserts that a CSR was neither decided on nor signed, though the
// hub has looked at the enrollment while it was there.
func (a *enrolled) untouched(t *testing.T, name string) {
	t.Helper()
	h := a.h
	h.settleEnrollments(t) // the CSR is in the hub's cache by now
	a.look(t)
	h.settleEnrollments(t)
	csr := h.readCSR(t, name)
	require.Empty(t, csr.Status.Conditions)
	require.Empty(t, csr.Status.Certificate)
}

func renewalLabel(t *testing.T, h *hub) {
	a := h.join(t)
	_, name := a.renew(t, func(csr *certificatesv1.CertificateSigningRequest) { csr.Labels[identity.ClusterNameLabel] = "another" })
	a.untouched(t, name)
}

func renewalPrefix(t *testing.T, h *hub) {
	a := h.join(t)
	for i, subject := range []pkix.Name{
		identity.Subject(a.cluster.Name+"xyz", "agent"),
		{Organization: []string{identity.Group(a.cluster.Name + "xyz")}, CommonName: identity.User(a.cluster.Name, "agent")},
		{Organization: []string{identity.Group(a.cluster.Name)}, CommonName: identity.User(a.cluster.Name, "other-agent")},
	} {
		key, hash := newKey(t)
		name := a.cluster.Name + "-" + hash[:10]
		a.patch(t, func(e *v1alpha1.ClusterEnrollment) {
			e.Status.Next = &v1alpha1.Certificate{KeySHA256: hash, CSRName: name}
		})
		der := rawCSR(t, key, &x509.CertificateRequest{Subject: subject})
		require.NoError(t, h.server.Create(t.Context(), request(name, a.cluster.Name, identity.User(a.cluster.Name, "agent"), a.name, der)))
		h.settleEnrollments(t)
		csr := h.readCSR(t, name)
		require.Nil(t, csrCondition(csr, certificatesv1.CertificateApproved), "subject %d", i)
		require.Empty(t, csr.Status.Certificate)
	}
	require.Empty(t, a.read(t).Status.Next.Serial)
}

func renewalKey(t *testing.T, h *hub) {
	a := h.join(t)
	key, hash := newKey(t)
	name := a.cluster.Name + "-" + hash[:12]
	require.NoError(t, h.server.Create(t.Context(), a.csr(t, name, key, identity.User(a.cluster.Name, "agent"))))
	a.untouched(t, name)
	_, another := newKey(t) // the record names the request, for another key
	a.patch(t, func(e *v1alpha1.ClusterEnrollment) {
		e.Status.Next = &v1alpha1.Certificate{KeySHA256: another, CSRName: name}
	})
	a.untouched(t, name)
}

func renewalDenied(t *testing.T, h *hub) {
	a := h.join(t)
	a.patch(t, func(e *v1alpha1.ClusterEnrollment) { e.Status.Next = nil })
	key, hash := newKey(t)
	name := a.cluster.Name + "-" + hash[:12]
	require.NoError(t, h.server.Create(t.Context(), a.csr(t, name, key, identity.User(a.cluster.Name, "agent"))))
	h.decide(t, name, certificatesv1.CertificateDenied, "Person")
	a.patch(t, func(e *v1alpha1.ClusterEnrollment) {
		e.Status.Next = &v1alpha1.Certificate{KeySHA256: hash, CSRName: name}
	})
	h.settleEnrollments(t)
	csr := h.readCSR(t, name)
	require.Len(t, csr.Status.Conditions, 1)
	require.Empty(t, csr.Status.Certificate)
	require.Equal(t, v1alpha1.StateIssued, a.read(t).Status.State, "the certificate in use stays good")
	require.Contains(t, h.awaitRotated(t, a.cluster.Name, metav1.ConditionFalse, "ClientCertificateUpdateFailed").Message, "denied")
}

func renewalOfDenied(t *testing.T, h *hub) {
	a := h.join(t)
	h.accept(t, a.cluster.Name, false)
	a.await(t, v1alpha1.StateRevoked, reason.NotAccepted)
	_, name := a.renew(t)
	a.untouched(t, name)
	h.accept(t, a.cluster.Name, true) // no review is made, and no right is needed
	eventually(t, func(c *assert.CollectT) { require.NotEmpty(c, a.read(t).Status.Next.Serial) })
}

// approvedByToken: being OCM's name for a bootstrap user changes nothing.
func approvedByToken(t *testing.T, h *hub) {
	byPerson, byToken := h.enroll(t, h.cluster(t, true)), h.enroll(t, h.cluster(t, false), func(e *v1alpha1.ClusterEnrollment, _ *certificatesv1.CertificateSigningRequest) {
		e.Spec.AutoAccept = &v1alpha1.AutoAccept{By: "alice"}
	})
	byToken.await(t, v1alpha1.StateIssued, "")
	h.awaitEvent(t, byToken.cluster.Name, "ManagedClusterAutoApproved")
	h.settleEnrollments(t)
	require.Equal(t, v1alpha1.StatePending, byPerson.read(t).Status.State)
	require.Empty(t, h.readCSR(t, byPerson.name).Status.Conditions)
}

// lifetimes: what a request asks for is not looked at.
func lifetimes(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, true), func(_ *v1alpha1.ClusterEnrollment, csr *certificatesv1.CertificateSigningRequest) {
		csr.Spec.ExpirationSeconds = new(int32(30 * 24 * 3600))
	})
	a.approve(t)
	e := a.await(t, v1alpha1.StateIssued, "")
	require.WithinDuration(t, h.clock.Now().Add(lifetime), e.Status.Current.NotAfter.Time, time.Minute)
}

// externalRenewal: what a signer got wrong costs no certificate that is in use.
func externalRenewal(t *testing.T, h *hub) {
	a := h.join(t)
	a.use(t)
	before := *a.read(t).Status.Current
	key, hash := newKey(t)
	name := a.cluster.Name + "-" + hash[:12]
	require.NoError(t, h.server.Create(t.Context(), a.csr(t, name, key, identity.User(a.cluster.Name, "agent"))))
	h.decide(t, name, certificatesv1.CertificateApproved, "Person")
	h.signExternally(t, h.ca, name, a.key.Public(), identity.Agent{Cluster: a.cluster.Name, Name: "agent"})
	a.patch(t, func(e *v1alpha1.ClusterEnrollment) {
		e.Status.Next = &v1alpha1.Certificate{KeySHA256: hash, CSRName: name}
	})
	eventually(t, func(c *assert.CollectT) {
		failed := csrCondition(h.readCSR(t, name), certificatesv1.CertificateFailed)
		require.NotNil(c, failed)
		require.Contains(c, failed.Message, "another key")
	})
	e := a.read(t)
	require.Equal(t, v1alpha1.StateActive, e.Status.State)
	require.Equal(t, before, *e.Status.Current)
	require.Empty(t, e.Status.Next.Serial)
	h.awaitRotated(t, a.cluster.Name, metav1.ConditionFalse, "ClientCertificateUpdateFailed")
}

// mallory may create CertificateSigningRequests and nothing else.
func (h *hub) mallory(t *testing.T) client.Client {
	t.Helper()
	name := "csr-creator-" + unique(t)
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests"}, Verbs: []string{"create"}},
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}},
	}
	require.NoError(t, h.admin.Create(t.Context(), role))
	require.NoError(t, h.admin.Create(t.Context(), binding))
	cfg, err := h.plane.ConfigFor(name)
	require.NoError(t, err)
	mallory, err := client.New(cfg, client.Options{Scheme: h.admin.Scheme()})
	require.NoError(t, err)
	return mallory
}

func forged(t *testing.T, h *hub) {
	victim := h.join(t)
	victim.use(t)
	mallory := h.mallory(t)
	key, hash := newKey(t)
	name := victim.cluster.Name + "-" + hash[:12]
	csr := victim.csr(t, name, key, identity.User(victim.cluster.Name, "agent"))
	eventually(t, func(c *assert.CollectT) { require.NoError(c, mallory.Create(t.Context(), csr.DeepCopy())) })
	victim.untouched(t, name)
	h.decide(t, name, certificatesv1.CertificateApproved, "Careless") // even if a person falls for it
	h.settleEnrollments(t)
	require.Empty(t, h.readCSR(t, name).Status.Certificate)

	// Nor does it help that the record names that very request and key.
	victim.patch(t, func(e *v1alpha1.ClusterEnrollment) {
		e.Status.Next = &v1alpha1.Certificate{KeySHA256: hash, CSRName: name}
	})
	h.settleEnrollments(t)
	require.Empty(t, h.readCSR(t, name).Status.Certificate)
	require.Empty(t, victim.read(t).Status.Next.Serial)
}

// squatted is a request under the name that an enrollment is going to have.
func squatted(t *testing.T, h *hub) {
	cluster := h.cluster(t, true)
	mallory := h.mallory(t)
	theirs, _ := newKey(t)
	var name string
	der, err := pki.NewCSR(theirs, identity.Subject(cluster.Name, "agent"))
	require.NoError(t, err)
	a := h.enroll(t, cluster, func(e *v1alpha1.ClusterEnrollment, csr *certificatesv1.CertificateSigningRequest) {
		name = e.Name
		fake := request(name, cluster.Name, identity.User(cluster.Name, "agent"), name, der)
		eventually(t, func(c *assert.CollectT) { require.NoError(c, mallory.Create(t.Context(), fake.DeepCopy())) })
		csr.Name = name + "-real" // the hub's own finds the name taken
	})
	h.decide(t, name, certificatesv1.CertificateApproved, "Careless")
	h.settleEnrollments(t)
	require.Empty(t, h.readCSR(t, name).Status.Certificate)
	require.Equal(t, v1alpha1.StatePending, a.read(t).Status.State)
}

func invalid(t *testing.T, h *hub) {
	cluster := h.cluster(t, true)
	a := h.enroll(t, cluster, func(e *v1alpha1.ClusterEnrollment, csr *certificatesv1.CertificateSigningRequest) {
		key, hash := newKey(t)
		e.Spec.KeySHA256 = hash
		der := rawCSR(t, key, &x509.CertificateRequest{Subject: identity.Subject(cluster.Name, "agent"), DNSNames: []string{"hub.example.com"}})
		csr.Spec.Request = pki.EncodeCSR(der)
	})
	e := a.await(t, v1alpha1.StateDenied, reason.InvalidCSR)
	require.Contains(t, e.Status.Message, "subject alternative names")
	eventually(t, func(c *assert.CollectT) {
		failed := csrCondition(h.readCSR(t, a.name), certificatesv1.CertificateFailed)
		require.NotNil(c, failed)
		require.Equal(c, reason.InvalidCSR, failed.Reason)
	})
	a.approve(t)
	h.settleEnrollments(t)
	require.Empty(t, h.readCSR(t, a.name).Status.Certificate)
}

func signerRefuses(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, true))
	h.signer.fail.Store(a.cluster.Name, error(&pki.CSRError{Problem: "its key is too old"}))
	a.approve(t)
	require.Contains(t, a.await(t, v1alpha1.StateDenied, reason.InvalidCSR).Status.Message, "too old")
	require.NotNil(t, csrCondition(h.readCSR(t, a.name), certificatesv1.CertificateFailed))
}

func signerFails(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, true))
	h.signer.fail.Store(a.cluster.Name, errors.New("authority away"))
	a.approve(t)
	a.await(t, v1alpha1.StateAccepted, "")
	eventually(t, func(c *assert.CollectT) { require.Greater(c, h.signer.signed(a.cluster.Name), int64(2)) })
	h.signer.fail.Delete(a.cluster.Name)
	a.await(t, v1alpha1.StateIssued, "")
}

// certify does what a signer does: writes a certificate into a CSR.
func (h *hub) certify(t *testing.T, name string, chain []byte) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		csr := h.readCSR(t, name)
		csr.Status.Certificate = chain
		require.NoError(c, h.admin.Status().Update(t.Context(), csr))
	})
}

// certified is an enrollment whose CSR is approved and has a certificate, and
// whose cluster is accepted after that.
func (h *hub) certified(t *testing.T, change func(*x509.CertificateRequest, *identity.Agent)) (*enrolled, []byte) {
	t.Helper()
	a := h.enroll(t, h.cluster(t, false))
	a.approve(t)
	block, err := pki.DecodeCSR(h.readCSR(t, a.name).Spec.Request)
	require.NoError(t, err)
	csr, id, err := pki.ParseCSR(block)
	require.NoError(t, err)
	id.HubID, id.UID = hubID, string(a.cluster.UID)
	change(csr, &id)
	cert, err := issue(h.ca, csr, id, h.clock.Now())
	require.NoError(t, err)
	chain := pki.EncodeCertificates(cert, h.ca.Cert)
	h.certify(t, a.name, chain)
	h.accept(t, a.cluster.Name, true)
	return a, chain
}

func (h *hub) usedUnchanged(t *testing.T, change func(*x509.CertificateRequest, *identity.Agent)) {
	t.Helper()
	a, chain := h.certified(t, change)
	e := a.await(t, v1alpha1.StateIssued, "")
	require.Equal(t, chain, e.Status.Current.Chain)
	require.Zero(t, h.signer.signed(a.cluster.Name))
}

func recovered(t *testing.T, h *hub) {
	h.usedUnchanged(t, func(*x509.CertificateRequest, *identity.Agent) {})
}

func external(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, false))
	a.approve(t)
	cert := h.signExternally(t, h.external, a.name, a.key.Public(), identity.Agent{Cluster: a.cluster.Name, Name: "agent", HubID: hubID, UID: string(a.cluster.UID)})
	h.accept(t, a.cluster.Name, true)
	e := a.await(t, v1alpha1.StateIssued, "")
	require.Equal(t, pki.Serial(cert), e.Status.Current.Serial)
	require.Equal(t, pki.EncodeCertificates(cert, h.external.Cert), e.Status.Current.Chain)
	require.Zero(t, h.signer.signed(a.cluster.Name))
}

// signExternally writes a certificate of some authority into a CSR.
func (h *hub) signExternally(t *testing.T, by *pki.CA, name string, key crypto.PublicKey, id identity.Agent) *x509.Certificate {
	t.Helper()
	cert, err := issue(by, &x509.CertificateRequest{PublicKey: key}, id, h.clock.Now())
	require.NoError(t, err)
	h.certify(t, name, pki.EncodeCertificates(cert, by.Cert))
	return cert
}

func externalUntrusted(t *testing.T, h *hub) {
	stranger, err := pki.NewCA("external", h.clock.Now(), lifetime) // has the name of one that is trusted
	require.NoError(t, err)
	a := h.enroll(t, h.cluster(t, false))
	a.approve(t)
	h.signExternally(t, stranger, a.name, a.key.Public(), identity.Agent{Cluster: a.cluster.Name, Name: "agent"})
	h.accept(t, a.cluster.Name, true)
	e := a.await(t, v1alpha1.StateDenied, "CertificateOfAnotherAuthority")
	require.Contains(t, e.Status.Message, "--agent-client-ca")
	require.Nil(t, e.Status.Current)
}

func externalWithoutURI(t *testing.T, h *hub) {
	h.usedUnchanged(t, func(_ *x509.CertificateRequest, id *identity.Agent) { id.HubID, id.UID = "", "" })
}

func (h *hub) refused(t *testing.T, change func(*x509.CertificateRequest, *identity.Agent), why, word string) {
	t.Helper()
	a, _ := h.certified(t, change)
	e := a.await(t, v1alpha1.StateDenied, why)
	require.Contains(t, e.Status.Message, word)
	require.Nil(t, e.Status.Current)
}

func externalOtherKey(t *testing.T, h *hub) {
	key, _ := newKey(t)
	h.refused(t, func(csr *x509.CertificateRequest, _ *identity.Agent) { csr.PublicKey = key.Public() }, "CertificateOfAnotherKey", "another key")
}

func externalOtherCluster(t *testing.T, h *hub) {
	h.refused(t, func(_ *x509.CertificateRequest, id *identity.Agent) { id.Cluster += "xyz" }, "CertificateOfAnotherSubject", "names")
}

func externalServer(t *testing.T, h *hub) {
	a := h.enroll(t, h.cluster(t, false))
	a.approve(t)
	id := identity.Agent{Cluster: a.cluster.Name, Name: "agent"}
	cert, err := h.ca.Issue(&x509.Certificate{
		Subject: identity.Subject(id.Cluster, id.Name), NotBefore: h.clock.Now().Add(-pki.Backdate), NotAfter: h.clock.Now().Add(lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.key.Public())
	require.NoError(t, err)
	h.certify(t, a.name, pki.EncodeCertificates(cert))
	h.accept(t, a.cluster.Name, true)
	require.Contains(t, a.await(t, v1alpha1.StateDenied, "CertificateNotForClients").Status.Message, "client authentication")
}
