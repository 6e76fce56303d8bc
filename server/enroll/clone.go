// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// ConditionCertificateCloned on a ManagedCluster says that a certificate was
// shown whose serial number is neither the current nor the next one.
const ConditionCertificateCloned = "CertificateCloned"

// Reasons of the condition.
const (
	reasonUnknownSerial = "UnknownSerial" // refused, and no more
	reasonOlderSerial   = "OlderSerial"   // a person has to decide
	reasonEnrolledAgain = "EnrolledAgain"
	reasonDecided       = "DecidedByPerson"
)

const (
	certificateFieldManager = "fairlead-certificates"
	maxRevokedSerials       = 100 // as the CRD has it
)

// raiseAlarm is for a certificate of this hub whose serial number is neither the
// current nor the next one. If it is an older one of the enrollment in use, two
// hold the agent's identity, and which of them is the agent the hub cannot know:
// the enrollment is put out of use, which ends every session of it, until a
// person decides. A newer one is only refused: it is one that a renewal
// replaced before it was used, or the record was restored from a backup. It
// returns what the caller is told.
func (s *Service) raiseAlarm(ctx context.Context, id identity.Agent, cert *x509.Certificate, refused error) error {
	serial := pki.Serial(cert)
	enrollments, err := s.ofCluster(ctx, false, id.Cluster)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(enrollments, func(e v1alpha1.ClusterEnrollment) bool { return older(&e, id, cert) })
	if at < 0 {
		s.markCloned(ctx, id.Cluster, metav1.ConditionTrue, reasonUnknownSerial,
			fmt.Sprintf("a certificate with serial %s was shown, which is neither the current nor the next one of this cluster: an old copy of the agent, or a stolen key", serial))
		return refused
	}
	before := enrollments[at].Status.State
	e, wrote, err := s.updateStatus(ctx, enrollments[at].Name, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
		if !older(e, id, cert) {
			return false, nil
		}
		e.Status.RevokedSerials = revoke(e.Status.RevokedSerials, serial)
		e.SetState(v1alpha1.StateRevoked, reason.CertificateClone, clonedMessage(e, serial), s.now())
		return true, nil
	})
	if err != nil || !wrote {
		return refused
	}
	s.audit("certificate.cloned", id.User(), e, before, "serial", serial, "current", e.Status.Current.Serial)
	s.markCloned(ctx, id.Cluster, metav1.ConditionTrue, reasonOlderSerial, e.Status.Message)
	return refuse(reason.CertificateClone, "%s", e.Status.Message)
}

func clonedMessage(e *v1alpha1.ClusterEnrollment, serial string) string {
	cluster, current := e.Spec.ClusterName, e.Status.Current.Serial
	return fmt.Sprintf("serial %s was shown, which %s has replaced: two hold the identity of cluster %q, and neither is served. "+
		"Does the agent that you trust log serial %s? Then `fairlead accept %s --serial %s`; else, or to be safe, `fairlead token create %s --re-enroll`",
		serial, current, cluster, current, cluster, current, cluster)
}

// older says whether a certificate was issued to an enrollment that is in use,
// before the current certificate. Those that the cluster had from an earlier
// enrollment do not count: nothing is decided by them any more.
func older(e *v1alpha1.ClusterEnrollment, id identity.Agent, cert *x509.Certificate) bool {
	serial := pki.Serial(cert)
	if e.Status.State != v1alpha1.StateActive || !e.EverIssued() || !sameAgent(e, id) || e.CertificateBySerial(serial) != nil {
		return false
	}
	chain, err := pki.ParseCertificates(e.Status.Current.Chain)
	if err != nil {
		return false
	}
	began := e.CreationTimestamp.Add(-time.Second) // both are whole seconds
	return !cert.NotBefore.After(chain[0].NotBefore) && !cert.NotBefore.Add(pki.Backdate).Before(began)
}

func sameAgent(e *v1alpha1.ClusterEnrollment, id identity.Agent) bool {
	return e.Spec.AgentName == id.Name && (id.UID == "" || e.Spec.ManagedClusterUID == id.UID)
}

// revoke adds a serial number; of too many the oldest is dropped, whose
// certificate has expired long ago.
func revoke(revoked []string, serial string) []string {
	if slices.Contains(revoked, serial) {
		return revoked
	}
	revoked = append(revoked, serial)
	return revoked[max(0, len(revoked)-maxRevokedSerials):]
}

// Vouch ends the alarm on a person's word: the certificate with that serial
// number, the current or the next one, is the agent's, and no other is taken.
// The person needs the right to accept the cluster. Refusals are *Error.
func (s *Service) Vouch(ctx context.Context, person client.Client, id, serial string) (*v1alpha1.ClusterEnrollment, error) {
	e, err := s.choose(ctx, Choice{ID: id})
	if err != nil {
		return nil, err
	}
	actor, err := whoIs(ctx, person)
	if err != nil {
		return nil, err
	}
	if err := mayAccept(ctx, person, e.Spec.ClusterName); err != nil {
		return nil, err
	}
	before := e.Status.State
	e, wrote, err := s.updateStatus(ctx, e.Name, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
		own := e.CertificateBySerial(serial)
		switch {
		case own == nil:
			return false, refuse(reason.SerialMismatch, "serial %q is neither the current nor the next one of cluster %q; if the agent that you trust has it, enroll that one again: `fairlead token create %s --re-enroll`",
				serial, e.Spec.ClusterName, e.Spec.ClusterName)
		case e.Status.State == v1alpha1.StateActive && e.Status.Current == own:
			return false, nil // said before
		case !e.Cloned():
			return false, refuse(reason.EnrollmentEnded, "enrollment %q is %s: nothing is to be decided about its certificates", e.Name, e.Status.State)
		}
		for _, other := range []*v1alpha1.Certificate{e.Status.Current, e.Status.Next} {
			if other != nil && other != own && other.Serial != "" {
				e.Status.RevokedSerials = revoke(e.Status.RevokedSerials, other.Serial)
			}
		}
		e.Status.Current, e.Status.Next, e.Status.AcceptedBy = own, nil, actor
		e.SetState(v1alpha1.StateActive, reasonDecided, fmt.Sprintf("%s has said that the certificate with serial %s is the agent's", actor, serial), s.now())
		return true, nil
	})
	if err != nil || !wrote {
		return e, err
	}
	s.audit("certificate.vouched", actor, e, before, "serial", serial)
	s.markCloned(ctx, e.Spec.ClusterName, metav1.ConditionFalse, reasonDecided, e.Status.Message)
	return e, nil
}

// markCloned sets the condition CertificateCloned on the ManagedCluster, best
// effort: the refusal stands whether or not the mark could be written. False is
// written only over an earlier True.
func (s *Service) markCloned(ctx context.Context, name string, status metav1.ConditionStatus, why, message string) {
	cluster := &clusterv1.ManagedCluster{}
	if err := s.watch.reader.Get(ctx, client.ObjectKey{Name: name}, cluster); err != nil {
		return
	}
	since := s.now()
	i := slices.IndexFunc(cluster.Status.Conditions, func(c metav1.Condition) bool { return c.Type == ConditionCertificateCloned })
	switch {
	case i < 0 && status == metav1.ConditionFalse:
		return
	case i >= 0 && cluster.Status.Conditions[i].Status == status && (why == reasonUnknownSerial || cluster.Status.Conditions[i].Message == message):
		return // already said; each attempt must not cost a write
	}
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": clusterv1.GroupVersion.String(), "kind": "ManagedCluster",
		"metadata": map[string]any{"name": name, "uid": string(cluster.UID)},
		"status": map[string]any{"conditions": []any{map[string]any{
			"type": ConditionCertificateCloned, "status": string(status), "reason": why, "message": message,
			"lastTransitionTime": since.UTC().Format(time.RFC3339),
		}}},
	}}
	if err := s.cfg.Agents.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner(certificateFieldManager), client.ForceOwnership); err != nil {
		s.cfg.Log.Warn("condition CertificateCloned could not be set", "cluster", name, "error", err)
	}
}
