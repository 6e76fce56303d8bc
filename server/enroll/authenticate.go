// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Verified is an agent whose certificate is good right now.
type Verified struct {
	// Agent has hub-id and UID filled in, also when the certificate has no URI.
	Agent identity.Agent
	// Serial is the serial number in use, Enrollment the record that has it.
	Serial     string
	Enrollment string
	NotAfter   time.Time
}

// Authenticate holds a client certificate, whose chain TLS has verified, against
// the record: not expired, of this hub, of the ManagedCluster that exists now
// (UID), accepted, and with a serial number that is current or next. First use
// of the next one makes it the current one; a serial that is neither raises
// the alarm (clone.go). Call it on every unary call and at
// the start of a session; it costs no call to the apiserver unless it refuses or
// promotes. Refusals are *Error.
func (s *Service) Authenticate(ctx context.Context, cert *x509.Certificate) (Verified, error) {
	if err := s.begun(cert); err != nil {
		return Verified{}, err
	}
	id, enrollment, err := s.verify(ctx, cert)
	if isReason(err, reason.SerialMismatch) {
		err = s.raiseAlarm(ctx, id, cert, err)
	}
	if err != nil {
		return Verified{}, err
	}
	if err := s.promote(ctx, enrollment, pki.Serial(cert)); err != nil {
		return Verified{}, err
	}
	return verified(id, enrollment, cert), nil
}

// begun refuses a certificate that is not valid yet. It was made by a clock of the
// hub that was ahead of this one by Backdate and more.
func (s *Service) begun(cert *x509.Certificate) error {
	now, made := s.cfg.Clock.Now(), cert.NotBefore.Add(pki.Backdate)
	if !now.Before(cert.NotBefore) {
		return nil
	}
	return refuse(reason.ClockSkew, "the hub's clock says %s, at least %s behind the one that this certificate was made by at %s; have NTP set the hub's clock",
		now.UTC().Format(time.RFC3339), made.Sub(now).Round(time.Second), made.UTC().Format(time.RFC3339))
}

// Check is Authenticate without any write, for the check that a live session
// gets once a minute: a session whose certificate has just been replaced is
// ending, not cloned, and one that began by a clock that was set back since goes on.
func (s *Service) Check(ctx context.Context, cert *x509.Certificate) (Verified, error) {
	id, enrollment, err := s.verify(ctx, cert)
	if err != nil {
		return Verified{}, err
	}
	return verified(id, enrollment, cert), nil
}

func verified(id identity.Agent, e *v1alpha1.ClusterEnrollment, cert *x509.Certificate) Verified {
	id.HubID, id.UID = e.Spec.HubID, e.Spec.ManagedClusterUID
	return Verified{Agent: id, Serial: pki.Serial(cert), Enrollment: e.Name, NotAfter: cert.NotAfter}
}

// verify does all of the check. Some refusals come with the enrollment that the
// certificate belongs to.
func (s *Service) verify(ctx context.Context, cert *x509.Certificate) (identity.Agent, *v1alpha1.ClusterEnrollment, error) {
	id, err := s.parseCertificate(cert)
	if err != nil {
		return id, nil, err
	}
	enrollment, err := s.match(ctx, true, id, cert)
	if _, ok := errors.AsType[*Error](err); ok { // the cache may be behind: no one is refused by it
		enrollment, err = s.match(ctx, false, id, cert)
	}
	return id, enrollment, err
}

func (s *Service) parseCertificate(cert *x509.Certificate) (identity.Agent, error) {
	id, err := identity.ParseCertificate(cert)
	if err != nil {
		return id, refuse(reason.CertificateError, "%v", err)
	}
	if id.HubID != "" && id.HubID != s.cfg.HubID {
		return id, refuse(reason.CertificateError, "the certificate is of hub %q, and this is hub %q; enroll here with a join token of this hub", id.HubID, s.cfg.HubID)
	}
	if now := s.cfg.Clock.Now(); now.After(cert.NotAfter) {
		return id, refuse(reason.CertificateExpired, "the certificate expired at %s, and the hub's clock says %s; enroll again with a re-enroll token",
			cert.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return id, nil
}

// match finds the enrollment that the certificate belongs to, or says why it is
// refused. It reads from the cache or from the apiserver and writes nothing; the
// result must not be changed.
func (s *Service) match(ctx context.Context, cached bool, id identity.Agent, cert *x509.Certificate) (*v1alpha1.ClusterEnrollment, error) {
	var reader client.Reader = s.cfg.Agents
	if cached {
		reader = s.watch.reader
	}
	// Whatever is found is only read: a copy would cost more than all the rest.
	enrollments, err := s.ofCluster(ctx, cached, id.Cluster, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, err
	}
	cluster := &clusterv1.ManagedCluster{}
	err = reader.Get(ctx, client.ObjectKey{Name: id.Cluster}, cluster, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return nil, gone(enrollments, id)
	}
	if err != nil {
		return nil, fmt.Errorf("reading ManagedCluster %q: %w", id.Cluster, err)
	}
	enrollment, err := pick(enrollments, id, cert)
	if id.UID != "" && id.UID != string(cluster.UID) || enrollment != nil && enrollment.Spec.ManagedClusterUID != string(cluster.UID) {
		return nil, refuse(reason.UIDMismatch, "the cluster that this certificate was issued to was removed, and another one is named %q now; enroll again with a new join token", id.Cluster)
	}
	if err != nil {
		return enrollment, err
	}
	// A cluster that is being deleted is served until it is gone: only its agent
	// can finish the works in its namespace.
	if !cluster.Spec.HubAcceptsClient {
		return enrollment, refuse(reason.NotAccepted, "the hub does not accept cluster %q at present; a hub admin decides that (hubAcceptsClient)", id.Cluster)
	}
	return enrollment, nil
}

// gone says why there is no ManagedCluster: removed on purpose, if that was
// seen and recorded, else merely absent, which must never be taken for a removal.
func gone(enrollments []v1alpha1.ClusterEnrollment, id identity.Agent) error {
	for i := range enrollments {
		if e := &enrollments[i]; e.Status.ClusterRemoved != nil && id.UID != "" && e.Spec.ManagedClusterUID == id.UID {
			return refuse(reason.ClusterRemoved, "cluster %q was removed from the hub at %s", id.Cluster, e.Status.ClusterRemoved.Format(time.RFC3339))
		}
	}
	return refuse(reason.UnknownCluster, "the hub knows no cluster named %q", id.Cluster)
}

// pick finds the enrollment whose current or next certificate is this one.
func pick(enrollments []v1alpha1.ClusterEnrollment, id identity.Agent, cert *x509.Certificate) (*v1alpha1.ClusterEnrollment, error) {
	serial, key := pki.Serial(cert), pki.KeySHA256(cert.RawSubjectPublicKeyInfo)
	var cloned *v1alpha1.ClusterEnrollment
	why := refuse(reason.SerialMismatch, "the certificate with serial %s is not in use any more: a newer one was issued to cluster %q; if this agent was restored from a copy, enroll it again with a re-enroll token", serial, id.Cluster)
	for i := range enrollments {
		e := &enrollments[i]
		if !sameAgent(e, id) {
			continue
		}
		if e.Cloned() {
			cloned = e
			continue
		}
		if slices.Contains(e.Status.RevokedSerials, serial) {
			return e, refuse(reason.Revoked, "the certificate with serial %s of cluster %q was revoked", serial, id.Cluster)
		}
		found := e.CertificateBySerial(serial)
		if found == nil || found.KeySHA256 != key {
			continue
		}
		if e.Status.State == v1alpha1.StateRevoked && !suspended(e) {
			return e, refuse(reason.Revoked, "the enrollment of cluster %q was revoked: %s", id.Cluster, e.Status.Message)
		}
		if ended(e) {
			return e, refuse(reason.EnrollmentEnded, "the enrollment of cluster %q has ended (%s); enroll again with a new join token", id.Cluster, e.Status.State)
		}
		return e, nil
	}
	if cloned != nil {
		return cloned, refuse(reason.CertificateClone, "%s", cloned.Status.Message)
	}
	return nil, why
}

// promote notes the first use of a certificate: what was next becomes current,
// and what this enrollment replaces is revoked.
func (s *Service) promote(ctx context.Context, e *v1alpha1.ClusterEnrollment, serial string) error {
	first, before := e.Status.State == v1alpha1.StateIssued, e.Status.State
	if !first && (e.Status.Next == nil || e.Status.Next.Serial != serial) {
		return nil
	}
	if e.Spec.ReplacesIssued && first {
		if err := s.revokeOthers(ctx, e); err != nil { // before the state changes, so that a crash repeats it
			return err
		}
	}
	now, wrote, err := s.updateStatus(ctx, e.Name, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
		if e.CertificateBySerial(serial) == nil || ended(e) {
			return false, refuse(reason.SerialMismatch, "the certificate with serial %s was replaced just now; connect again with the newest one", serial)
		}
		return s.noteUse(e, serial), nil
	})
	if wrote {
		s.audit("certificate.used", identity.User(now.Spec.ClusterName, now.Spec.AgentName), now, before, "serial", serial)
	}
	return err
}

// noteUse changes the record for the use of a serial; false if it says so already.
func (s *Service) noteUse(e *v1alpha1.ClusterEnrollment, serial string) bool {
	changed := false
	if next := e.Status.Next; next != nil && next.Serial == serial {
		e.Status.Current, e.Status.Next, changed = next, nil, true
	}
	if e.Status.State == v1alpha1.StateIssued {
		e.SetState(v1alpha1.StateActive, "CertificateUsed", "the agent has connected with its certificate", s.now())
		changed = true
	}
	return changed
}

// revokeOthers ends the other enrollments of the same ManagedCluster.
func (s *Service) revokeOthers(ctx context.Context, by *v1alpha1.ClusterEnrollment) error {
	enrollments, err := s.ofCluster(ctx, false, by.Spec.ClusterName)
	if err != nil {
		return err
	}
	for i := range enrollments {
		other := &enrollments[i]
		if other.Name == by.Name || other.Spec.ManagedClusterUID != by.Spec.ManagedClusterUID || ended(other) {
			continue
		}
		before := other.Status.State
		replaced, wrote, err := s.updateStatus(ctx, other.Name, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
			if ended(e) {
				return false, nil
			}
			e.SetState(v1alpha1.StateRevoked, "Replaced", "the cluster enrolled again as "+by.Name, s.now())
			return true, nil
		})
		if err != nil {
			return err
		}
		if wrote {
			s.audit("enroll.revoked", by.Name, replaced, before)
			s.tell(ctx, replaced, "EnrollmentRevoked", "Revoke", fmt.Sprintf("Enrollment %s was replaced by %s.", replaced.Name, by.Name))
		}
	}
	s.markCloned(ctx, by.Spec.ClusterName, metav1.ConditionFalse, reasonEnrolledAgain, "the cluster has enrolled again")
	return nil
}
