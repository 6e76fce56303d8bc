// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// ConditionSuspended on a ClusterEnrollment is True while its cluster is denied
// after it had a certificate. Its reason is the state that comes back with
// acceptance.
const ConditionSuspended = "Suspended"

// confirm reads again what would end the enrollment or set it back: a cache that
// lags behind an acceptance must not be the witness against it.
func (p *pass) confirm(ctx context.Context) error {
	waiting := p.e.Status.State == v1alpha1.StateAccepted && (!p.accepted() || !p.first.approved())
	inUse := (p.e.Status.State == v1alpha1.StateIssued || p.e.Status.State == v1alpha1.StateActive) && p.mine() && !p.cluster.Spec.HubAcceptsClient
	if !waiting && !inUse {
		return nil
	}
	var err error
	if p.cluster, err = readCluster(ctx, p.live, p.e.Spec.ClusterName); err != nil || !waiting {
		return err
	}
	p.first, err = p.request(ctx, p.live, p.e.Spec.CSRName, p.e.Spec.KeySHA256)
	return err
}

// decide moves the enrollment to the state that follows from what is known. It
// writes nothing but the object in memory and calls nobody.
func (p *pass) decide(context.Context) error {
	if p.mine() && !p.cluster.DeletionTimestamp.IsZero() && p.e.Status.ClusterRemoved == nil {
		p.e.Status.ClusterRemoved = p.cluster.DeletionTimestamp.DeepCopy()
	}
	switch p.e.Status.State {
	case "":
		p.set(v1alpha1.StatePending, "WaitingForAcceptance", "a hub admin has to accept this cluster: compare the pairing code, then accept or deny")
		p.decideOpen()
	case v1alpha1.StatePending, v1alpha1.StateAccepted:
		p.decideOpen()
	case v1alpha1.StateIssued, v1alpha1.StateActive:
		p.decideIssued()
	case v1alpha1.StateRevoked:
		p.decideSuspended()
	case v1alpha1.StateExpired:
		p.decideExpired()
	case v1alpha1.StateDenied, v1alpha1.StateDetached:
	}
	return nil
}

// decideOpen is for enrollments without a certificate.
func (p *pass) decideOpen() {
	accepted := p.accepted() && p.first.approved()
	deadline := p.e.CreationTimestamp.Add(p.cfg.PendingTTL)
	switch why, message := p.lost(); {
	case why != "":
		p.deny(why, message)
	case !p.cluster.DeletionTimestamp.IsZero():
		p.deny(reason.ClusterRemoved, "the ManagedCluster is being removed")
	case p.first.denied() != nil:
		p.deny(orDefault(p.first.denied().Reason, "Denied"), p.deniedMessage())
	case p.first.failed() != nil:
		p.deny(orDefault(p.first.failed().Reason, reason.InvalidCSR), p.first.failed().Message)
	case p.first.invalid() != nil:
		p.deny(reason.InvalidCSR, p.first.invalid().Error())
	case p.overtakenBy() != "":
		p.deny(reason.Superseded, fmt.Sprintf("enrollment %q of the same cluster was accepted", p.overtakenBy()))
	case accepted:
		p.accept()
	case !p.now.Before(deadline):
		p.expire(p.whyTooLate())
	default:
		if p.e.Status.State == v1alpha1.StateAccepted {
			p.set(v1alpha1.StatePending, reason.NotAccepted, "acceptance was taken back before a certificate was signed")
			meta.RemoveStatusCondition(&p.e.Status.Conditions, v1alpha1.ConditionAccepted)
		}
		p.wake(deadline.Sub(p.now))
	}
}

func (p *pass) whyTooLate() string {
	if p.e.Status.State == v1alpha1.StateAccepted {
		return "it was accepted, but its request is gone before a certificate was signed"
	}
	return fmt.Sprintf("nobody accepted it within %v", p.cfg.PendingTTL)
}

// lost says why the ManagedCluster of the enrollment does not exist any more.
func (p *pass) lost() (why, message string) {
	switch {
	case p.mine():
		return "", ""
	case p.e.Status.ClusterRemoved != nil:
		return reason.ClusterRemoved, "the ManagedCluster was removed from the hub"
	case p.cluster != nil:
		return reason.UIDMismatch, "the ManagedCluster was removed, and another one has its name now"
	default:
		return reason.UnknownCluster, "the ManagedCluster is gone"
	}
}

// accepted says whether a person's word, or the hub's on behalf of one, stands.
func (p *pass) accepted() bool {
	return p.mine() && p.cluster.DeletionTimestamp.IsZero() && p.cluster.Spec.HubAcceptsClient
}

func (p *pass) accept() {
	if p.e.Status.State == v1alpha1.StateAccepted {
		return
	}
	p.e.Status.AcceptedBy = p.acceptedBy()
	p.set(v1alpha1.StateAccepted, "Accepted", "accepted; a certificate will be signed")
	p.setCondition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, "Accepted", "accepted by "+orDefault(p.e.Status.AcceptedBy, "a hub admin"))
	p.notef("EnrollmentAccepted", "Accept", "Enrollment %s of cluster %s was accepted by %s.",
		p.e.Name, p.e.Spec.ClusterName, orDefault(p.e.Status.AcceptedBy, "a hub admin"))
}

func (p *pass) acceptedBy() string {
	if by := p.e.Annotations[v1alpha1.AnnotationDecidedBy]; by != "" {
		return by
	}
	if p.first.approvedByHub() && p.e.Spec.AutoAccept != nil {
		return p.e.Spec.AutoAccept.By
	}
	return "" // plain kubectl leaves no name; the audit log of the apiserver has it
}

func (p *pass) deny(why, message string) {
	p.set(v1alpha1.StateDenied, why, message)
	p.warnf("EnrollmentDenied", "Deny", "Enrollment %s of cluster %s was denied (%s): %s.", p.e.Name, p.e.Spec.ClusterName, why, message)
}

func (p *pass) deniedMessage() string {
	message := orDefault(p.first.denied().Message, "its CertificateSigningRequest was denied")
	if by := p.e.Annotations[v1alpha1.AnnotationDecidedBy]; by != "" {
		message += " (by " + by + ")"
	}
	return message
}

func (p *pass) expire(message string) {
	p.set(v1alpha1.StateExpired, "Expired", message)
	p.warnf("EnrollmentExpired", "Expire", "Enrollment %s of cluster %s expired: %s.", p.e.Name, p.e.Spec.ClusterName, message)
}

// overtakenBy names the enrollment of the same ManagedCluster that was accepted
// while this one was waiting. One that was accepted earlier, and that this one
// is going to replace, does not count.
func (p *pass) overtakenBy() string {
	if p.e.Status.State == v1alpha1.StateAccepted {
		return ""
	}
	for i := range p.peers {
		peer := &p.peers[i]
		if peer.Name == p.e.Name || peer.Spec.ManagedClusterUID != p.e.Spec.ManagedClusterUID || peer.Status.State.Final() {
			continue
		}
		accepted := meta.FindStatusCondition(peer.Status.Conditions, v1alpha1.ConditionAccepted)
		if accepted != nil && accepted.Status == metav1.ConditionTrue && !accepted.LastTransitionTime.Before(&p.e.CreationTimestamp) {
			return peer.Name
		}
	}
	return ""
}

// decideIssued is for enrollments that have a certificate.
func (p *pass) decideIssued() {
	if why, message := p.lost(); why != "" {
		p.set(v1alpha1.StateRevoked, why, message)
		p.warnf("EnrollmentRevoked", "Revoke", "Enrollment %s of cluster %s has ended (%s).", p.e.Name, p.e.Spec.ClusterName, why)
		return
	}
	if !p.cluster.Spec.HubAcceptsClient {
		p.setCondition(ConditionSuspended, metav1.ConditionTrue, string(p.e.Status.State), "hubAcceptsClient is false; accepting the cluster again restores this enrollment")
		p.set(v1alpha1.StateRevoked, reason.NotAccepted, "the cluster was denied (hubAcceptsClient is false)")
		p.warnf("EnrollmentRevoked", "Revoke", "Enrollment %s is out of use: cluster %s was denied.", p.e.Name, p.e.Spec.ClusterName)
		return
	}
	if p.e.Status.State == v1alpha1.StateActive {
		p.decideActive()
		return
	}
	if p.e.Status.LastTransitionTime == nil {
		return
	}
	deadline := p.e.Status.LastTransitionTime.Add(p.cfg.UnusedTTL)
	if !p.now.Before(deadline) {
		p.expire(fmt.Sprintf("its certificate was not used within %v", p.cfg.UnusedTTL))
		return
	}
	p.wake(deadline.Sub(p.now))
}

// decideActive ends an enrollment whose last certificate has expired: its agent
// cannot come back by itself (RA-19).
func (p *pass) decideActive() {
	until := p.validUntil()
	if until.IsZero() {
		return
	}
	if p.now.Before(until) {
		p.wake(until.Sub(p.now))
		return
	}
	message := fmt.Sprintf("its certificate expired at %s and was not renewed, so the agent was off or cut off; to bring it back: `fairlead token create %s --re-enroll`, and give the join string to the agent",
		until.UTC().Format(time.RFC3339), p.e.Spec.ClusterName)
	p.set(v1alpha1.StateExpired, v1alpha1.ReasonCertificateExpired, message)
	p.warnf("EnrollmentExpired", "Expire", "Enrollment %s of cluster %s expired: %s.", p.e.Name, p.e.Spec.ClusterName, message)
}

// decideExpired brings back what expired by a clock that was wrong.
func (p *pass) decideExpired() {
	if !p.e.OutOfTime() {
		return
	}
	if why, message := p.lost(); why != "" {
		p.set(v1alpha1.StateRevoked, why, message)
		return
	}
	if p.now.Before(p.validUntil()) {
		p.set(v1alpha1.StateActive, "CertificateValid", "its certificate is valid: the clock by which it had expired was wrong")
		p.wake(p.validUntil().Sub(p.now))
	}
}

// validUntil is when the last of the enrollment's certificates expires.
func (p *pass) validUntil() time.Time {
	var until time.Time
	for _, c := range []*v1alpha1.Certificate{p.e.Status.Current, p.e.Status.Next} {
		if c != nil && c.NotAfter != nil && c.NotAfter.After(until) {
			until = c.NotAfter.Time
		}
	}
	return until
}

// decideSuspended brings back what only the denial of the cluster had ended.
func (p *pass) decideSuspended() {
	if ended(p.e) {
		return
	}
	if why, message := p.lost(); why != "" {
		p.setCondition(ConditionSuspended, metav1.ConditionFalse, why, message)
		p.set(v1alpha1.StateRevoked, why, message)
		return
	}
	if !p.accepted() {
		return
	}
	if p.e.Cloned() {
		return // that is for a person to decide, who says which certificate is the agent's
	}
	before := v1alpha1.EnrollmentState(meta.FindStatusCondition(p.e.Status.Conditions, ConditionSuspended).Reason)
	p.setCondition(ConditionSuspended, metav1.ConditionFalse, "Accepted", "the cluster was accepted again")
	p.set(before, "AcceptedAgain", "the cluster was accepted again")
	p.notef("EnrollmentRestored", "Accept", "Enrollment %s is in use again: cluster %s was accepted.", p.e.Name, p.e.Spec.ClusterName)
}

// ended says whether nothing can bring the enrollment back.
func ended(e *v1alpha1.ClusterEnrollment) bool {
	return e.Status.State.Final() && !suspended(e) && !e.Cloned() && !e.OutOfTime()
}

// suspended says whether only the denial of the cluster has ended the enrollment.
func suspended(e *v1alpha1.ClusterEnrollment) bool {
	return e.Status.State == v1alpha1.StateRevoked && e.Status.Reason == reason.NotAccepted &&
		meta.IsStatusConditionTrue(e.Status.Conditions, ConditionSuspended)
}

func (p *pass) setCondition(kind string, status metav1.ConditionStatus, why, message string) {
	meta.SetStatusCondition(&p.e.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: why, Message: message, LastTransitionTime: metav1.NewTime(p.now.Truncate(time.Second)),
	})
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
