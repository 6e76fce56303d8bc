// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// eventCreated is what OCM's agents call it (RA-16).
const eventCreated = "ClientCertificateCreated"

// errRefused is wrapped by errors after which a request is never tried again.
var errRefused = errors.New("the request is refused")

// signFirst gets the first certificate of an accepted enrollment.
func (p *pass) signFirst(ctx context.Context) error {
	if problem := p.first.invalid(); problem != nil {
		return p.fail(ctx, p.first, problem)
	}
	if p.e.Status.State != v1alpha1.StateAccepted || !p.accepted() || !p.first.approved() || !p.e.AwaitsKey(p.e.Spec.KeySHA256) {
		return nil
	}
	leaf, err := p.certificate(ctx, p.first)
	switch {
	case errors.Is(err, errRefused):
		p.deny(refusal(err), err.Error())
		return nil
	case err != nil || leaf == nil:
		return err
	}
	p.e.Status.Current = p.record(p.first, leaf)
	p.set(v1alpha1.StateIssued, "CertificateIssued", "a certificate was signed; the agent has not used it yet")
	p.notef(eventCreated, "Sign", "Cluster %s, accepted by %s, got its certificate %s, valid until %s.",
		p.e.Spec.ClusterName, orDefault(p.e.Status.AcceptedBy, "a hub admin"), pki.Serial(leaf), leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// signNext gets the certificate of a renewal. The current one stays current
// until the agent has used the next.
func (p *pass) signNext(ctx context.Context) error {
	next := p.e.Status.Next
	if !p.renewal.approved() || p.renewal.failed() != nil || !p.e.AwaitsKey(next.KeySHA256) {
		return nil
	}
	leaf, err := p.certificate(ctx, p.renewal)
	if errors.Is(err, errRefused) { // the agent asks with another key once it sees that
		p.log.WarnContext(ctx, "a renewal was refused", "cluster", p.e.Spec.ClusterName, "csr", next.CSRName, "error", err)
		return p.fail(ctx, p.renewal, err)
	}
	if err != nil || leaf == nil {
		return err
	}
	p.e.Status.Next = p.record(p.renewal, leaf)
	p.notef(eventCreated, "Sign", "Cluster %s got its next certificate %s, valid until %s.", p.e.Spec.ClusterName, p.e.Status.Next.Serial, leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// certificate returns the leaf for a request: the one in the CSR if there is
// one already (signed before a crash, or by an external signer), else a new one,
// which is written into the CSR. nil means that an external signer has to act.
func (p *pass) certificate(ctx context.Context, r *request) (*x509.Certificate, error) {
	if len(r.object.Status.Certificate) == 0 {
		if p.cfg.Signer == nil {
			return nil, nil //nolint:nilnil // nil is no certificate yet
		}
		if err := p.sign(ctx, r); err != nil {
			return nil, err
		}
	}
	leaf, err := p.issued(r)
	if err != nil {
		return nil, fmt.Errorf("%w: the certificate in CertificateSigningRequest %q: %w", errRefused, r.object.Name, err)
	}
	return leaf, nil
}

func (p *pass) sign(ctx context.Context, r *request) error {
	// The cache may not know yet that somebody has signed it, and a certificate that
	// nobody uses is one too many.
	live := &certificatesv1.CertificateSigningRequest{}
	if err := p.live.Get(ctx, client.ObjectKeyFromObject(r.object), live); err != nil {
		return fmt.Errorf("reading CertificateSigningRequest %q: %w", r.object.Name, err)
	}
	if live.UID == r.object.UID && len(live.Status.Certificate) > 0 {
		r.object = live
		return nil
	}
	chain, err := p.cfg.Signer.Sign(r.parsed, agent(p.e))
	if broken, ok := errors.AsType[*pki.CSRError](err); ok {
		return errors.Join(fmt.Errorf("%w: %w", errRefused, err), p.fail(ctx, r, broken))
	}
	if err != nil {
		return fmt.Errorf("signing CertificateSigningRequest %q of cluster %q: %w", r.object.Name, p.e.Spec.ClusterName, err)
	}
	object := r.object.DeepCopy()
	object.Status.Certificate = chain
	if err := p.client.Status().Update(ctx, object, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("writing the certificate into CertificateSigningRequest %q: %w", object.Name, err)
	}
	r.object = object
	return nil
}

// Why a certificate that is in a CSR is not taken; reasons of the enrollment.
const (
	refusedUnreadable = "CertificateUnreadable"
	refusedKey        = "CertificateOfAnotherKey"
	refusedSubject    = "CertificateOfAnotherSubject"
	refusedUsage      = "CertificateNotForClients"
	refusedExpired    = "CertificateExpired"
	refusedIssuer     = "CertificateOfAnotherAuthority"
)

// certificateError is a certificate that is not taken.
type certificateError struct{ reason, problem string }

// Error implements error.
func (e *certificateError) Error() string { return e.problem }

func notTaken(reason, format string, args ...any) error {
	return &certificateError{reason, fmt.Sprintf(format, args...)}
}

// issued checks the certificate in a CSR, whoever signed it, against the record:
// the requested key, this very agent, good for a client, not expired, and of an
// authority whose certificates open a session. Its errors are *certificateError.
func (p *pass) issued(r *request) (*x509.Certificate, error) {
	chain, err := pki.ParseCertificates(r.object.Status.Certificate)
	if err != nil {
		return nil, notTaken(refusedUnreadable, "%v", err)
	}
	leaf, want := chain[0], agent(p.e)
	if pki.KeySHA256(leaf.RawSubjectPublicKeyInfo) != pki.KeySHA256(r.parsed.RawSubjectPublicKeyInfo) {
		return nil, notTaken(refusedKey, "it is for another key")
	}
	got, err := identity.ParseCertificate(leaf)
	if err != nil {
		return nil, notTaken(refusedSubject, "%v", err)
	}
	if got.UID == "" && got.HubID == "" { // a signer that cannot copy the URI: the record binds the UID
		want.UID, want.HubID = "", ""
	}
	switch {
	case got != want:
		return nil, notTaken(refusedSubject, "it names %+v, want %+v", got, want)
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return nil, notTaken(refusedUsage, "it is not good for client authentication")
	case !p.now.Before(leaf.NotAfter):
		return nil, notTaken(refusedExpired, "it expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: p.cfg.ClientCAs(), Intermediates: between, CurrentTime: p.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, notTaken(refusedIssuer, "it does not chain to an authority that the hub takes agents of (--agent-client-ca): %v", err)
	}
	return leaf, nil
}

func (p *pass) record(r *request, leaf *x509.Certificate) *v1alpha1.Certificate {
	notAfter := metav1.NewTime(leaf.NotAfter)
	return &v1alpha1.Certificate{
		KeySHA256: pki.KeySHA256(leaf.RawSubjectPublicKeyInfo), CSRName: r.object.Name,
		Serial: pki.Serial(leaf), NotAfter: &notAfter, Chain: r.object.Status.Certificate,
	}
}

// refusal is the reason word for a request that is refused.
func refusal(err error) string {
	if certificate, ok := errors.AsType[*certificateError](err); ok {
		return certificate.reason
	}
	return reason.InvalidCSR
}
