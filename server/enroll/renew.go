// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/x509"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Renew gets a certificate for a new key to an agent that shows a good one. It
// records the key as the next one, makes the CSR that a controller approves and
// signs for exactly that key, and waits for the certificate (at most 55 s; ask
// again with the same key if it took longer). The certificate in use stays good
// until the new one is used. A later Renew with another key replaces an unused
// one, so at most two are valid at any time; whoever waits for that one is told
// so at once (CONFLICT). Refusals are *Error.
func (s *Service) Renew(ctx context.Context, cert *x509.Certificate, csrDER []byte) (Enrollment, error) {
	verified, err := s.Authenticate(ctx, cert)
	if err != nil {
		return Enrollment{}, err
	}
	csr, requested, err := pki.ParseCSR(csrDER)
	if err != nil {
		return Enrollment{}, refuse(reason.InvalidCSR, "%v", err)
	}
	if requested.Cluster != verified.Agent.Cluster || requested.Name != verified.Agent.Name {
		return Enrollment{}, refuse(reason.InvalidCSR, "the certificate request is for %q, and you are %q", requested.User(), verified.Agent.User())
	}
	if err := spend(s.limits.renewals.of(verified.Agent.Cluster), s.cfg.Clock.Now()); err != nil {
		return Enrollment{}, err
	}
	key := pki.KeySHA256(csr.RawSubjectPublicKeyInfo)
	name := identity.EnrollmentName(verified.Agent.Cluster, identity.PairingCode(csr.RawSubjectPublicKeyInfo, verified.Agent.Cluster, s.cfg.HubID))
	used, err := s.certified(ctx, name)
	if err != nil {
		return Enrollment{}, err
	}
	enrollment, err := s.recordNext(ctx, verified, key, name, used)
	if err != nil {
		return Enrollment{}, err
	}
	if certificateOf(enrollment, key) == nil {
		request, err := s.ensureCSR(ctx, name, enrollment, csr.Raw)
		if err != nil {
			return Enrollment{}, err
		}
		if err := turnedDown(request); err != nil {
			return Enrollment{}, err
		}
	}
	return s.awaitRenewal(ctx, enrollment, key)
}

// turnedDown says why a request for a renewal will never be signed. The agent
// makes a new one, with a new key; the certificate in use stays good.
func turnedDown(request *certificatesv1.CertificateSigningRequest) error {
	for _, c := range request.Status.Conditions {
		if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
			return refuse(reason.InvalidCSR, "CertificateSigningRequest %q is %s (%s: %s); the next attempt is made with a new key", request.Name, c.Type, c.Reason, c.Message)
		}
	}
	return nil
}

// certified tells whether there was a certificate for the key that a CSR is named
// after, as long as that CSR is there (Kubernetes keeps it for an hour).
func (s *Service) certified(ctx context.Context, csrName string) (bool, error) {
	request := &certificatesv1.CertificateSigningRequest{}
	err := s.cfg.Agents.Get(ctx, client.ObjectKey{Name: csrName}, request)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading CertificateSigningRequest %q: %w", csrName, err)
	}
	return len(request.Status.Certificate) > 0, nil
}

// recordNext writes the key into the enrollment as the next one. used tells that
// the key has had a certificate.
func (s *Service) recordNext(ctx context.Context, verified Verified, key, csrName string, used bool) (*v1alpha1.ClusterEnrollment, error) {
	enrollment, wrote, err := s.updateStatus(ctx, verified.Enrollment, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
		if ended(e) || e.CertificateBySerial(verified.Serial) == nil {
			return false, refuse(reason.SerialMismatch, "the certificate with serial %s was replaced or ended just now; connect again with the newest one", verified.Serial)
		}
		if e.Spec.KeySHA256 == key || e.Status.Current != nil && e.Status.Current.KeySHA256 == key {
			return false, refuse(reason.InvalidCSR, "the certificate request has the key of a certificate in use; renewal needs a new key")
		}
		if e.Status.Next != nil && e.Status.Next.KeySHA256 == key {
			return false, nil // the same request again
		}
		if used {
			return false, refuse(reason.InvalidCSR, "the certificate request has a key that had a certificate before; renewal needs a new key")
		}
		e.Status.Next = &v1alpha1.Certificate{KeySHA256: key, CSRName: csrName}
		return true, nil
	})
	if wrote {
		s.audit("certificate.renew", verified.Agent.User(), enrollment, enrollment.Status.State, "serial", verified.Serial, "csr", csrName)
	}
	return enrollment, err
}

// awaitRenewal waits for the certificate of a key that e has recorded as the next.
func (s *Service) awaitRenewal(ctx context.Context, e *v1alpha1.ClusterEnrollment, key string) (Enrollment, error) {
	ctx, cancel := context.WithTimeout(ctx, maxPoll)
	defer cancel()
	last, err := s.watch.wait(ctx, e.Name, func(now *v1alpha1.ClusterEnrollment) bool {
		return ended(now) || certificateOf(now, key) != nil || replaced(now, e, key)
	})
	if err != nil && ctx.Err() == nil {
		return Enrollment{}, err
	}
	if last != nil && ended(last) {
		return Enrollment{}, refuse(reason.EnrollmentEnded, "the enrollment of cluster %q has ended (%s)", e.Spec.ClusterName, last.Status.State)
	}
	if last != nil && replaced(last, e, key) {
		return Enrollment{}, refuse(reason.Conflict,
			"another request of cluster %q to renew, with another key, came after this one and counts; take the certificate that it gets, or ask again", e.Spec.ClusterName)
	}
	if last == nil || certificateOf(last, key) == nil {
		return Enrollment{}, &Error{
			Reason: reason.HubOverloaded, RetryAfter: pollAfter,
			Message: "the certificate was not signed in time; ask again with the same key, and keep using the one you have",
		}
	}
	return s.answer(last, certificateOf(last, key)), nil
}

// replaced says whether the enrollment, since it was as in recorded, has another
// key than this for its next certificate, or none. A cache that does not show
// recorded yet says nothing.
func replaced(now, recorded *v1alpha1.ClusterEnrollment, key string) bool {
	newer, err := resourceversion.CompareResourceVersion(now.ResourceVersion, recorded.ResourceVersion)
	if err != nil || newer < 0 {
		return false
	}
	for _, cert := range []*v1alpha1.Certificate{now.Status.Current, now.Status.Next} {
		if cert != nil && cert.KeySHA256 == key {
			return false
		}
	}
	return true
}

// Detach ends the enrollment that the certificate belongs to, on the spoke's own
// wish. Nobody on the hub is asked, and repeating it does no harm.
func (s *Service) Detach(ctx context.Context, cert *x509.Certificate, why string) error {
	id, enrollment, err := s.verify(ctx, cert)
	switch {
	case isReason(err, reason.EnrollmentEnded):
		return nil
	case enrollment != nil && isReason(err, reason.NotAccepted): // leaving needs no acceptance
	case err != nil:
		return err
	}
	why, before := truncate(why, maxFactLength), enrollment.Status.State
	left, wrote, err := s.updateStatus(ctx, enrollment.Name, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
		if ended(e) {
			return false, nil
		}
		e.SetState(v1alpha1.StateDetached, "DetachedBySpoke", why, s.now())
		return true, nil
	})
	if wrote {
		s.audit("enroll.detached", id.User(), left, before, "why", why)
		s.tell(ctx, left, "EnrollmentDetached", "Detach", "The spoke has left: "+why)
	}
	return err
}

func truncate(text string, n int) string {
	if len(text) > n {
		return text[:n]
	}
	return text
}
