// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Choice names an enrollment to a person: by its id, or by its cluster and
// pairing code.
type Choice struct {
	ID      string
	Cluster string
	// PairingCode as the person read it on the spoke; case and dashes do not matter.
	PairingCode string
}

// Reasons that the hub writes into conditions of CertificateSigningRequests.
const (
	reasonAccepted = "FairleadAccepted"
	reasonDenied   = "FairleadDenied"
)

// Accept accepts a waiting enrollment on a person's word: the pairing code must
// be that of the very key, and everything that matters (hubAcceptsClient, the
// approval of the CSR) is written with the person's own client, so Kubernetes
// decides whether they may. A controller signs then. Accepting again does no
// harm. Refusals, also those of the apiserver, are *Error.
func (s *Service) Accept(ctx context.Context, person client.Client, choice Choice) (*v1alpha1.ClusterEnrollment, error) {
	enrollment, err := s.choose(ctx, choice)
	if err != nil {
		return nil, err
	}
	if identity.NormalizePairingCode(choice.PairingCode) != enrollment.Spec.PairingCode {
		return nil, refuse(reason.PairingCodeMismatch,
			"%q is not the pairing code of the key that asked to join as %q; compare with what the agent itself shows. If the agent shows that code, somebody else used its join token: deny this enrollment and make a new token", choice.PairingCode, enrollment.Spec.ClusterName)
	}
	if enrollment.Status.State.Final() {
		return nil, refuse(reason.EnrollmentEnded, "enrollment %q has ended (%s); the agent has to enroll again with a new join token", enrollment.Name, enrollment.Status.State)
	}
	if err := s.checkStillFree(ctx, enrollment); err != nil {
		return nil, err
	}
	actor, err := whoIs(ctx, person)
	if err != nil {
		return nil, err
	}
	if err := mayAccept(ctx, person, enrollment.Spec.ClusterName); err != nil {
		return nil, err
	}
	if err := s.acceptCluster(ctx, person, enrollment); err != nil {
		return nil, err
	}
	if err := s.decideCSR(ctx, person, enrollment, certificatesv1.CertificateApproved, "accepted with pairing code "+enrollment.Spec.PairingCode); err != nil {
		return nil, err
	}
	enrollment, _, err = s.updateStatus(ctx, enrollment.Name, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
		// A controller may have seen the approval and gone on already.
		if e.Status.AcceptedBy != "" && e.Status.State != v1alpha1.StatePending {
			return false, nil
		}
		e.Status.AcceptedBy = actor
		if e.Status.State == v1alpha1.StatePending {
			e.SetState(v1alpha1.StateAccepted, "AcceptedByPerson", "accepted by "+actor, s.now())
			meta.SetStatusCondition(&e.Status.Conditions, metav1.Condition{
				Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "AcceptedByPerson", Message: "accepted by " + actor,
			})
		}
		return true, nil
	})
	return enrollment, err
}

// choose finds the enrollment that a person means.
func (s *Service) choose(ctx context.Context, choice Choice) (*v1alpha1.ClusterEnrollment, error) {
	name := choice.ID
	if name == "" {
		code := identity.NormalizePairingCode(choice.PairingCode)
		if err := identity.ValidateClusterName(choice.Cluster); err != nil {
			return nil, refuse(reason.InvalidName, "%v", err)
		}
		if code == "" {
			return s.onlyPending(ctx, choice)
		}
		name = identity.EnrollmentName(choice.Cluster, code)
	}
	enrollment, err := s.read(ctx, name)
	if apierrors.IsNotFound(err) && choice.ID == "" {
		return s.onlyPending(ctx, choice)
	}
	if apierrors.IsNotFound(err) {
		return nil, refuse(reason.EnrollmentNotFound, "there is no enrollment %q; see `fairlead get enrollments`", name)
	}
	return enrollment, err
}

// onlyPending is the enrollment of a cluster that waits, when no code names one.
func (s *Service) onlyPending(ctx context.Context, choice Choice) (*v1alpha1.ClusterEnrollment, error) {
	enrollments, err := s.ofCluster(ctx, false, choice.Cluster)
	if err != nil {
		return nil, err
	}
	var found *v1alpha1.ClusterEnrollment
	for i := range enrollments {
		if enrollments[i].Status.State != v1alpha1.StatePending {
			continue
		}
		if found != nil {
			return nil, refuse(reason.PairingCodeMismatch, "several enrollments of cluster %q wait and none has pairing code %q; see `fairlead get enrollments`", choice.Cluster, choice.PairingCode)
		}
		found = &enrollments[i]
	}
	if found == nil {
		return nil, refuse(reason.EnrollmentNotFound, "no enrollment of a cluster named %q waits; see `fairlead get enrollments`", choice.Cluster)
	}
	return found, nil
}

// checkStillFree refuses an enrollment whose cluster was issued a certificate by
// another one since, or does not exist any more.
func (s *Service) checkStillFree(ctx context.Context, e *v1alpha1.ClusterEnrollment) error {
	if e.Spec.ReplacesIssued || e.EverIssued() {
		return nil
	}
	others, err := s.ofCluster(ctx, false, e.Spec.ClusterName)
	if err != nil {
		return err
	}
	if issuedTo(others, e.Spec.ManagedClusterUID, e.Name) {
		return refuse(reason.ClusterExists, "another key joined as cluster %q first; deny this enrollment", e.Spec.ClusterName)
	}
	return nil
}

func whoIs(ctx context.Context, person client.Client) (string, error) {
	review := &authenticationv1.SelfSubjectReview{}
	if err := person.Create(ctx, review); err != nil {
		return "", personError("asking the apiserver who you are", err)
	}
	return review.Status.UserInfo.Username, nil
}

// mayAccept asks for the permission that OCM's admission asks for as well, so
// that it holds where that admission does not run.
func mayAccept(ctx context.Context, person client.Client, cluster string) error {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: identity.RegisterGroup, Resource: "managedclusters", Subresource: "accept", Verb: "update", Name: cluster,
		},
	}}
	if err := person.Create(ctx, review); err != nil {
		return personError("asking the apiserver whether you may accept clusters", err)
	}
	if !review.Status.Allowed {
		return refuse(reason.PermissionDenied, "you may not accept cluster %q: it needs the verb update on managedclusters/accept in group register.open-cluster-management.io", cluster)
	}
	return nil
}

// acceptCluster sets hubAcceptsClient as the person.
func (s *Service) acceptCluster(ctx context.Context, person client.Client, e *v1alpha1.ClusterEnrollment) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		cluster := &clusterv1.ManagedCluster{}
		err := s.cfg.Agents.Get(ctx, client.ObjectKey{Name: e.Spec.ClusterName}, cluster)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err != nil || string(cluster.UID) != e.Spec.ManagedClusterUID || cluster.DeletionTimestamp != nil {
			return refuse(reason.UIDMismatch, "the ManagedCluster %q that this enrollment was for is gone; the agent has to enroll again with a new join token", e.Spec.ClusterName)
		}
		if cluster.Spec.HubAcceptsClient {
			return nil
		}
		before := cluster.DeepCopy()
		cluster.Spec.HubAcceptsClient = true
		return person.Patch(ctx, cluster, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	})
	return personError(fmt.Sprintf("accepting ManagedCluster %q with your own credentials", e.Spec.ClusterName), err)
}

// decideCSR approves or denies the enrollment's CSR as the person, exactly the
// object that was read (UID and resourceVersion), after checking that it is the
// hub's own request for the key that enrolled.
func (s *Service) decideCSR(ctx context.Context, person client.Client, e *v1alpha1.ClusterEnrollment, decision certificatesv1.RequestConditionType, message string) error {
	doing := fmt.Sprintf("deciding on CertificateSigningRequest %q with your own credentials", e.Spec.CSRName)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		csr := &certificatesv1.CertificateSigningRequest{}
		err := s.cfg.Agents.Get(ctx, client.ObjectKey{Name: e.Spec.CSRName}, csr)
		if apierrors.IsNotFound(err) && (decision == certificatesv1.CertificateDenied || e.EverIssued()) {
			return nil // nothing left to decide
		}
		if apierrors.IsNotFound(err) {
			return refuse(reason.EnrollmentNotFound, "CertificateSigningRequest %q is gone; the agent makes it again when it is restarted", e.Spec.CSRName)
		}
		if err != nil {
			return err
		}
		if err := sameRequest(csr, s.agent, e, e.Spec.KeySHA256); err != nil {
			return err
		}
		for _, condition := range csr.Status.Conditions {
			if condition.Type == decision {
				return nil
			}
			if condition.Type == certificatesv1.CertificateApproved || condition.Type == certificatesv1.CertificateDenied {
				return refuse(reason.EnrollmentEnded, "CertificateSigningRequest %q is %s already; the agent has to enroll again", csr.Name, condition.Type)
			}
		}
		why := reasonAccepted
		if decision == certificatesv1.CertificateDenied {
			why = reasonDenied
		}
		csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: decision, Status: corev1.ConditionTrue, Reason: why, Message: message, LastUpdateTime: s.now(),
		})
		return person.SubResource("approval").Update(ctx, csr)
	})
	return personError(doing, err)
}

// Deny refuses a waiting enrollment on a person's word. The CSR is denied with
// the person's own client; a ManagedCluster that the hub made for it and nobody
// touched is removed. The caller has checked that the person may deny.
func (s *Service) Deny(ctx context.Context, person client.Client, choice Choice, why string) error {
	enrollment, err := s.choose(ctx, choice)
	if err != nil {
		return err
	}
	switch enrollment.Status.State {
	case v1alpha1.StateDenied: // repeat what may be left undone
	case v1alpha1.StatePending, v1alpha1.StateAccepted:
	default:
		return refuse(reason.EnrollmentEnded, "enrollment %q is %s; to cut a cluster off, revoke it", enrollment.Name, enrollment.Status.State)
	}
	actor, err := whoIs(ctx, person)
	if err != nil {
		return err
	}
	why = truncate(why, maxFactLength)
	if enrollment.Status.State != v1alpha1.StateDenied {
		if err := s.decideCSR(ctx, person, enrollment, certificatesv1.CertificateDenied, "denied: "+why); err != nil {
			return err
		}
	}
	enrollment, _, err = s.updateStatus(ctx, enrollment.Name, func(e *v1alpha1.ClusterEnrollment) (bool, error) {
		if e.Status.State.Final() {
			return false, nil // a controller may have seen the denied CSR already
		}
		if e.EverIssued() {
			return false, refuse(reason.Conflict, "enrollment %q was issued a certificate just now; revoke the cluster instead", e.Name)
		}
		e.SetState(v1alpha1.StateDenied, "DeniedByPerson", fmt.Sprintf("denied by %s: %s", actor, why), s.now())
		return true, nil
	})
	if err != nil {
		return err
	}
	return s.removeUntouched(ctx, enrollment)
}

// removeUntouched deletes the ManagedCluster that the hub made for an enrollment
// if nobody has touched it and no other enrollment needs it.
func (s *Service) removeUntouched(ctx context.Context, e *v1alpha1.ClusterEnrollment) error {
	cluster := &clusterv1.ManagedCluster{}
	err := s.cfg.Agents.Get(ctx, client.ObjectKey{Name: e.Spec.ClusterName}, cluster)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading ManagedCluster %q: %w", e.Spec.ClusterName, err)
	}
	if !e.Spec.MadeManagedCluster || string(cluster.UID) != e.Spec.ManagedClusterUID || !kube.UntouchedManagedCluster(cluster, e.Name) {
		return nil
	}
	others, err := s.ofCluster(ctx, false, e.Spec.ClusterName)
	if err != nil {
		return err
	}
	for i := range others {
		if others[i].Name != e.Name && others[i].Spec.ManagedClusterUID == e.Spec.ManagedClusterUID && !others[i].Status.State.Final() {
			return nil
		}
	}
	err = s.cfg.Hub.Delete(ctx, cluster, client.Preconditions{UID: &cluster.UID, ResourceVersion: &cluster.ResourceVersion})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // a conflict is a touch
		return nil
	}
	return fmt.Errorf("deleting ManagedCluster %q, which the hub made for enrollment %q: %w", cluster.Name, e.Name, err)
}
