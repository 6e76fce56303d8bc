// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	maxFactLength = 253 // of what an agent says about itself
	retryWhenFull = time.Minute
)

// asked is a request to join that is well formed.
type asked struct {
	Request
	agent     identity.Agent
	csr       *x509.CertificateRequest
	keySHA256 string
	code      string
	name      string // of the enrollment and its CSR
}

// Enroll takes an agent's request to join. The same key may repeat it as often
// as it likes and gets the same enrollment; whatever a crash left undone is
// finished then. Nothing is written for a request that is refused. Refusals are
// *Error.
func (s *Service) Enroll(ctx context.Context, req Request) (Enrollment, error) {
	if err := s.admit(ctx, req); err != nil {
		return Enrollment{}, err
	}
	ask, err := s.parse(req)
	if err != nil {
		return Enrollment{}, err
	}
	token, err := s.checkToken(ctx, ask)
	if err != nil {
		return Enrollment{}, err
	}
	existing, err := s.read(ctx, ask.name)
	if apierrors.IsNotFound(err) {
		existing, err = s.open(ctx, ask, token)
	}
	if err != nil {
		return Enrollment{}, err
	}
	return s.finish(ctx, ask, existing)
}

// admit spends what the request costs, first of its source's budget and only
// then of everybody's: some sources that ask without end must not keep out the
// others. A key that has an enrollment repeats on a budget of its own. It verifies
// nothing: what is refused here must be cheap.
func (s *Service) admit(ctx context.Context, req Request) error {
	now := s.cfg.Clock.Now()
	if name, known := s.known(ctx, req); known {
		return spend(s.limits.repeats.of(name), now)
	}
	if err := spend(s.limits.source.of(sourceKey(req.Source)), now); err != nil {
		return err
	}
	return spend(s.limits.global, now)
}

// known is the enrollment that the key in a request has already, if it has.
func (s *Service) known(ctx context.Context, req Request) (string, bool) {
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return "", false
	}
	name := identity.EnrollmentName(req.Cluster, identity.PairingCode(csr.RawSubjectPublicKeyInfo, req.Cluster, s.cfg.HubID))
	_, err = s.watch.get(ctx, name)
	return name, err == nil
}

// parse holds name and certificate request against the rules.
func (s *Service) parse(req Request) (*asked, error) {
	if err := identity.ValidateClusterName(req.Cluster); err != nil {
		return nil, refuse(reason.InvalidName, "%v; choose another cluster name", err)
	}
	for what, fact := range map[string]string{"cluster fingerprint": req.Fingerprint, "agent id": req.AgentID, "agent version": req.AgentVersion} {
		if len(fact) > maxFactLength || strings.ContainsFunc(fact, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return nil, refuse(reason.InvalidArgument, "the %s must be at most %d printable characters", what, maxFactLength)
		}
	}
	csr, agent, err := pki.ParseCSR(req.CSR)
	if err != nil {
		return nil, refuse(reason.InvalidCSR, "%v", err)
	}
	if agent.Cluster != req.Cluster {
		return nil, refuse(reason.InvalidCSR, "the certificate request is for cluster %q, the request to join for %q", agent.Cluster, req.Cluster)
	}
	code := identity.PairingCode(csr.RawSubjectPublicKeyInfo, req.Cluster, s.cfg.HubID)
	return &asked{
		Request: req, agent: agent, csr: csr, code: code,
		keySHA256: pki.KeySHA256(csr.RawSubjectPublicKeyInfo),
		name:      identity.EnrollmentName(req.Cluster, code),
	}, nil
}

func (a *asked) presented() presented {
	return presented{token: a.Token, cluster: a.Cluster, keySHA256: a.keySHA256, source: a.Source}
}

// checkToken holds the token against the request and counts failures per id.
func (s *Service) checkToken(ctx context.Context, ask *asked) (Token, error) {
	p, now := ask.presented(), s.cfg.Clock.Now()
	if err := s.limits.checkFailures(p.id(), now); err != nil {
		return Token{}, err
	}
	token, err := s.tokens.check(ctx, p)
	return token, s.tokenFailed(ctx, ask, err)
}

// tokenFailed notes a refused token: in the limiter, in the audit log, and where
// another key has used it, on the enrollment of that key, for a person to see.
func (s *Service) tokenFailed(ctx context.Context, ask *asked, err error) error {
	var refused *Error
	if err == nil || !errors.As(err, &refused) {
		return err
	}
	id := ask.presented().id()
	s.limits.failed(id, s.cfg.Clock.Now())
	s.cfg.Log.Warn("audit", "action", "enroll.refused", "actor", ask.agent.User(), "cluster", ask.Cluster, "before", "", "after", "", "reason", refused.Reason, "tokenId", id,
		"source", ask.Source.String(), "pairingCode", ask.code)
	if refused.Reason == reason.TokenUsed {
		s.noteConflict(ctx, ask)
	}
	return err
}

// open makes everything that a new enrollment needs but its CSR: uses the token,
// makes or joins the ManagedCluster, writes the record. Checks come first, so
// that what is refused costs no use and leaves nothing.
func (s *Service) open(ctx context.Context, ask *asked, token Token) (*v1alpha1.ClusterEnrollment, error) {
	replaces, err := s.checkCluster(ctx, ask, token)
	if err != nil {
		return nil, err
	}
	if !s.watch.reserve(ask.name, s.limits.pending) {
		return nil, &Error{
			Reason:     reason.TooManyPending,
			Message:    fmt.Sprintf("%d enrollments wait for a person already; the hub's admin has to accept or deny some first", s.limits.pending),
			RetryAfter: retryWhenFull,
		}
	}
	enrollment, err := s.record(ctx, ask, token, replaces)
	if err != nil {
		s.watch.giveUp(ask.name)
	}
	return enrollment, err
}

// record makes what is new, in an order in which a crash costs nothing: an equal
// request goes on after any write.
func (s *Service) record(ctx context.Context, ask *asked, token Token, replaces bool) (*v1alpha1.ClusterEnrollment, error) {
	var err error
	if token, err = s.tokens.use(ctx, ask.presented()); err != nil {
		return nil, s.tokenFailed(ctx, ask, err)
	}
	cluster, err := s.ensureCluster(ctx, ask, token.Policy.ClusterLabels)
	if err != nil {
		return nil, err
	}
	enrollment := s.newEnrollment(ask, token, cluster)
	enrollment.Spec.ReplacesIssued = replaces
	err = s.cfg.Agents.Create(ctx, enrollment)
	if apierrors.IsAlreadyExists(err) {
		return s.read(ctx, ask.name) // the same key asked twice at once
	}
	if err != nil {
		return nil, fmt.Errorf("recording the enrollment of cluster %q: %w", ask.Cluster, err)
	}
	s.audit("enroll.request", ask.agent.User(), enrollment, "", "source", ask.Source.String(), "tokenId", token.ID)
	s.tell(ctx, enrollment, "EnrollmentRequested", "Enroll",
		fmt.Sprintf("%s asks to join with join token %s of %s and pairing code %s.", ask.Source, token.ID, token.CreatedBy, ask.code))
	return enrollment, nil
}

// checkCluster refuses a name that is taken: once any certificate was issued to
// the ManagedCluster, only a re-enroll token gets in. It writes nothing.
func (s *Service) checkCluster(ctx context.Context, ask *asked, token Token) (replaces bool, err error) {
	cluster := &clusterv1.ManagedCluster{}
	err = s.cfg.Agents.Get(ctx, client.ObjectKey{Name: ask.Cluster}, cluster)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading ManagedCluster %q: %w", ask.Cluster, err)
	}
	if cluster.DeletionTimestamp != nil {
		return false, &Error{Reason: reason.ClusterExists, Message: fmt.Sprintf("cluster %q is being removed from the hub; try again when it is gone", ask.Cluster), RetryAfter: retryWhenFull}
	}
	enrollments, err := s.ofCluster(ctx, false, ask.Cluster)
	if err != nil {
		return false, err
	}
	if !issuedTo(enrollments, string(cluster.UID), "") {
		return false, nil
	}
	if !token.Policy.ReEnroll {
		return false, refuse(reason.ClusterExists,
			"a cluster named %q has joined this hub already; choose another name, or ask the hub's admin for a re-enroll token for this one", ask.Cluster)
	}
	return true, nil
}

// issuedTo says whether a certificate was ever issued to a ManagedCluster by an
// enrollment other than the one named.
func issuedTo(enrollments []v1alpha1.ClusterEnrollment, uid, except string) bool {
	for i := range enrollments {
		if enrollments[i].Name != except && enrollments[i].Spec.ManagedClusterUID == uid && enrollments[i].EverIssued() {
			return true
		}
	}
	return false
}

// ensureCluster makes the ManagedCluster, not accepted, with the labels of the
// token, or joins the one that was made beforehand without touching it (RA-04).
func (s *Service) ensureCluster(ctx context.Context, ask *asked, given labels.Set) (*clusterv1.ManagedCluster, error) {
	fresh := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{
		Name: ask.Cluster, Labels: given,
		Annotations: map[string]string{v1alpha1.AnnotationMadeBy: ask.name},
	}}
	if len(given) > 0 {
		fresh.Annotations[v1alpha1.AnnotationMadeWithLabels] = given.String()
	}
	err := s.cfg.Agents.Create(ctx, fresh)
	if err == nil {
		return fresh, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("creating ManagedCluster %q: %w", ask.Cluster, err)
	}
	cluster := &clusterv1.ManagedCluster{}
	if err := s.cfg.Agents.Get(ctx, client.ObjectKey{Name: ask.Cluster}, cluster); err != nil {
		return nil, fmt.Errorf("reading ManagedCluster %q: %w", ask.Cluster, err)
	}
	return cluster, nil
}

func (s *Service) newEnrollment(ask *asked, token Token, cluster *clusterv1.ManagedCluster) *v1alpha1.ClusterEnrollment {
	enrollment := &v1alpha1.ClusterEnrollment{
		ObjectMeta: metav1.ObjectMeta{Name: ask.name, Labels: map[string]string{identity.ClusterNameLabel: ask.Cluster}},
		Spec: v1alpha1.ClusterEnrollmentSpec{
			ClusterName:        ask.Cluster,
			HubID:              s.cfg.HubID,
			ManagedClusterUID:  string(cluster.UID),
			AgentName:          ask.agent.Name,
			PairingCode:        ask.code,
			CSRName:            ask.name,
			ClusterFingerprint: ask.Fingerprint,
			AgentID:            ask.AgentID,
			AgentVersion:       ask.AgentVersion,
			SourceAddress:      ask.Source.String(),
			TokenID:            token.ID,
			// After a crash the annotation tells the repeated call that it was the hub.
			MadeManagedCluster: cluster.Annotations[v1alpha1.AnnotationMadeBy] == ask.name,
		},
	}
	enrollment.Spec.SetPublicKey(ask.csr.RawSubjectPublicKeyInfo)
	if token.Policy.AutoAccept || s.cfg.AutoApprove(token.CreatedBy) {
		enrollment.Spec.AutoAccept = &v1alpha1.AutoAccept{By: token.CreatedBy}
	}
	return enrollment
}

// finish makes sure that the CSR of an open enrollment exists, and answers.
func (s *Service) finish(ctx context.Context, ask *asked, e *v1alpha1.ClusterEnrollment) (Enrollment, error) {
	if e.Spec.KeySHA256 != ask.keySHA256 || e.Spec.ClusterName != ask.Cluster || e.Spec.HubID != s.cfg.HubID {
		return Enrollment{}, refuse(reason.Conflict, "enrollment %q belongs to another key; make a new key and enroll again", e.Name)
	}
	if !e.EverIssued() && !e.Status.State.Final() {
		if _, err := s.ensureCSR(ctx, ask.name, e, ask.csr.Raw); err != nil {
			return Enrollment{}, err
		}
	}
	return s.answer(e, certificateOf(e, ask.keySHA256)), nil
}

// ensureCSR makes the CertificateSigningRequest that shows a request to people
// and to the signer, and returns the one that is there. One of that name that
// somebody else made is refused.
func (s *Service) ensureCSR(ctx context.Context, name string, e *v1alpha1.ClusterEnrollment, der []byte) (*certificatesv1.CertificateSigningRequest, error) {
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{identity.ClusterNameLabel: e.Spec.ClusterName},
			Annotations: map[string]string{
				identity.CSRUserAnnotation:    identity.User(e.Spec.ClusterName, e.Spec.AgentName),
				v1alpha1.AnnotationEnrollment: e.Name,
			},
		},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pki.EncodeCSR(der),
			SignerName: identity.SignerName,
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		},
	}
	err := s.cfg.Agents.Create(ctx, csr)
	if err == nil {
		return csr, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("creating CertificateSigningRequest %q: %w", name, err)
	}
	existing := &certificatesv1.CertificateSigningRequest{}
	if err := s.cfg.Agents.Get(ctx, client.ObjectKey{Name: name}, existing); err != nil {
		return nil, fmt.Errorf("reading CertificateSigningRequest %q: %w", name, err)
	}
	return existing, sameRequest(existing, s.agent, e, certificateKey(der))
}

// sameRequest refuses a CSR object that is not the hub's own request for a key.
func sameRequest(csr *certificatesv1.CertificateSigningRequest, agent string, e *v1alpha1.ClusterEnrollment, keySHA256 string) error {
	der, err := pki.DecodeCSR(csr.Spec.Request)
	if err == nil && csr.Spec.Username == agent && csr.Spec.SignerName == identity.SignerName && certificateKey(der) == keySHA256 {
		return nil
	}
	return refuse(reason.Conflict, "CertificateSigningRequest %q (of enrollment %q) was made by %q, or not for that key; an admin has to delete it",
		csr.Name, e.Name, csr.Spec.Username)
}

// certificateKey is the key hash of a request, empty if it does not parse.
func certificateKey(der []byte) string {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return ""
	}
	return pki.KeySHA256(csr.RawSubjectPublicKeyInfo)
}

// ConditionTokenConflict on a ClusterEnrollment says that its join token was
// shown again by another key: one of the two may be a thief.
const ConditionTokenConflict = "TokenConflict"

// noteConflict marks the enrollments that used the token, best effort: the
// refusal stands whether or not the mark could be written.
func (s *Service) noteConflict(ctx context.Context, ask *asked) {
	enrollments, err := s.ofCluster(ctx, true, ask.Cluster)
	if err != nil {
		s.cfg.Log.Warn("a token conflict could not be marked", "cluster", ask.Cluster, "error", err)
		return
	}
	for i := range enrollments {
		if enrollments[i].Spec.TokenID != ask.presented().id() {
			continue
		}
		_, _, err := s.updateStatus(ctx, enrollments[i].Name, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
			return meta.SetStatusCondition(&e.Status.Conditions, metav1.Condition{
				Type: ConditionTokenConflict, Status: metav1.ConditionTrue, Reason: "UsedByAnotherKey",
				Message: fmt.Sprintf("join token %q was shown again by the key with pairing code %s from %s; compare the code with the agent's own before you accept",
					ask.presented().id(), ask.code, ask.Source),
			}), nil
		})
		if err != nil {
			s.cfg.Log.Warn("a token conflict could not be marked", "enrollment", enrollments[i].Name, "error", err)
		}
	}
}
