// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

// enrolled is an agent that has asked to join, the way server/enroll records it.
type enrolled struct {
	h       *hub
	cluster *clusterv1.ManagedCluster
	key     crypto.Signer
	hash    string
	name    string // of the enrollment and of the first CSR
}

type option func(*v1alpha1.ClusterEnrollment, *certificatesv1.CertificateSigningRequest)

// enroll makes what a request to join leaves in the apiserver: the record and
// the CSR, made with the hub's agent-facing ServiceAccount.
func (h *hub) enroll(t *testing.T, cluster *clusterv1.ManagedCluster, options ...option) *enrolled {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	spki, err := pki.SPKI(key.Public())
	require.NoError(t, err)
	code := identity.PairingCode(spki, cluster.Name, hubID)
	a := &enrolled{h: h, cluster: cluster, key: key, hash: pki.KeySHA256(spki), name: identity.EnrollmentName(cluster.Name, code)}
	e := &v1alpha1.ClusterEnrollment{
		ObjectMeta: metav1.ObjectMeta{Name: a.name, Labels: map[string]string{identity.ClusterNameLabel: cluster.Name}},
		Spec: v1alpha1.ClusterEnrollmentSpec{
			ClusterName: cluster.Name, HubID: hubID, ManagedClusterUID: string(cluster.UID), AgentName: "agent",
			KeySHA256: a.hash, PublicKey: base64.StdEncoding.EncodeToString(spki), PairingCode: code, CSRName: a.name, TokenID: "tok",
			MadeManagedCluster: cluster.Annotations[v1alpha1.AnnotationMadeBy] != "",
		},
	}
	csr := a.csr(t, a.name, key, identity.Subject(cluster.Name, "agent").CommonName)
	for _, o := range options {
		o(e, csr)
	}
	require.NoError(t, h.server.Create(t.Context(), e))
	require.NoError(t, h.server.Create(t.Context(), csr))
	return a
}

// csr is the hub's own request for a key.
func (a *enrolled) csr(t *testing.T, name string, key crypto.Signer, user string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	der, err := pki.NewCSR(key, identity.Subject(a.cluster.Name, "agent"))
	require.NoError(t, err)
	return request(name, a.cluster.Name, user, a.name, der)
}

func request(name, cluster, user, enrollment string, der []byte) *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{identity.ClusterNameLabel: cluster},
			Annotations: map[string]string{identity.CSRUserAnnotation: user, v1alpha1.AnnotationEnrollment: enrollment},
		},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pki.EncodeCSR(der), SignerName: identity.SignerName,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		},
	}
}

// rawCSR signs a request that may break every rule.
func rawCSR(t *testing.T, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(t, err)
	return der
}

func newKey(t *testing.T) (crypto.Signer, string) {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	spki, err := pki.SPKI(key.Public())
	require.NoError(t, err)
	return key, pki.KeySHA256(spki)
}

// decide approves or denies a CSR as a person.
func (h *hub) decide(t *testing.T, name string, kind certificatesv1.RequestConditionType, reason string) {
	t.Helper()
	eventually(t, func(c *assert.CollectT) {
		csr := &certificatesv1.CertificateSigningRequest{}
		require.NoError(c, h.admin.Get(t.Context(), client.ObjectKey{Name: name}, csr))
		csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: "said by a person",
		})
		require.NoError(c, h.admin.SubResource("approval").Update(t.Context(), csr))
	})
}

func (a *enrolled) approve(t *testing.T) {
	t.Helper()
	a.h.decide(t, a.name, certificatesv1.CertificateApproved, "Person")
}

func (a *enrolled) deny(t *testing.T) {
	t.Helper()
	a.h.decide(t, a.name, certificatesv1.CertificateDenied, "NotOurs")
}

func (a *enrolled) read(t *testing.T) *v1alpha1.ClusterEnrollment {
	t.Helper()
	e := &v1alpha1.ClusterEnrollment{}
	require.NoError(t, a.h.admin.Get(t.Context(), client.ObjectKey{Name: a.name}, e))
	return e
}

// look makes the hub look at the enrollment.
func (a *enrolled) look(t *testing.T) {
	t.Helper()
	e := a.read(t)
	before := e.DeepCopy()
	e.Annotations = map[string]string{"look": time.Now().String()}
	require.NoError(t, a.h.admin.Patch(t.Context(), e, client.MergeFrom(before)))
}

func (a *enrolled) await(t *testing.T, state v1alpha1.EnrollmentState, reason string) *v1alpha1.ClusterEnrollment {
	t.Helper()
	var got *v1alpha1.ClusterEnrollment
	eventually(t, func(c *assert.CollectT) {
		e := &v1alpha1.ClusterEnrollment{}
		require.NoError(c, a.h.admin.Get(t.Context(), client.ObjectKey{Name: a.name}, e))
		require.Equal(c, state, e.Status.State, "%s: %s", e.Status.Reason, e.Status.Message)
		if reason != "" {
			require.Equal(c, reason, e.Status.Reason)
		}
		got = e
	})
	return got
}

// join leads an agent to its first certificate, by a person's two acts.
func (h *hub) join(t *testing.T) *enrolled {
	t.Helper()
	a := h.enroll(t, h.cluster(t, false))
	h.accept(t, a.cluster.Name, true)
	a.approve(t)
	a.await(t, v1alpha1.StateIssued, "")
	h.awaitAccepted(t, a.cluster.Name)
	return a
}

// use is the first session with the certificate.
func (a *enrolled) use(t *testing.T) {
	t.Helper()
	a.patch(t, func(e *v1alpha1.ClusterEnrollment) {
		e.SetState(v1alpha1.StateActive, "CertificateUsed", "", metav1.NewTime(a.h.clock.Now()))
	})
}

func (a *enrolled) patch(t *testing.T, change func(*v1alpha1.ClusterEnrollment)) {
	t.Helper()
	e := a.read(t)
	before := e.DeepCopy()
	change(e)
	require.NoError(t, a.h.server.Status().Patch(t.Context(), e, client.MergeFrom(before)))
}

// renew is what RenewCertificate leaves: the key as next, and a CSR for it.
func (a *enrolled) renew(t *testing.T, change ...func(*certificatesv1.CertificateSigningRequest)) (crypto.Signer, string) {
	t.Helper()
	key, hash := newKey(t)
	name := a.cluster.Name + "-" + hash[:12]
	a.patch(t, func(e *v1alpha1.ClusterEnrollment) {
		e.Status.Next = &v1alpha1.Certificate{KeySHA256: hash, CSRName: name}
	})
	csr := a.csr(t, name, key, identity.User(a.cluster.Name, "agent"))
	for _, c := range change {
		c(csr)
	}
	require.NoError(t, a.h.server.Create(t.Context(), csr))
	return key, name
}

func (h *hub) readCSR(t *testing.T, name string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	csr := &certificatesv1.CertificateSigningRequest{}
	require.NoError(t, h.admin.Get(t.Context(), client.ObjectKey{Name: name}, csr))
	return csr
}

func csrCondition(csr *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range csr.Status.Conditions {
		if csr.Status.Conditions[i].Type == kind {
			return &csr.Status.Conditions[i]
		}
	}
	return nil
}

// settleEnrollments returns when every enrollment that waits now has been looked
// at: one that was made later has got its certificate.
func (h *hub) settleEnrollments(t *testing.T) {
	t.Helper()
	probe := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}}
	probe.Spec.HubAcceptsClient = true
	require.NoError(t, h.admin.Create(t.Context(), probe))
	a := h.enroll(t, probe)
	a.approve(t)
	a.await(t, v1alpha1.StateIssued, "")
}
