// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// Reasons of the condition Approved where the hub approves by itself.
const (
	// reasonApprovedRenewal is the reason that OCM's hub uses too.
	reasonApprovedRenewal = "AutoApprovedByHubCSRApprovingController"
	reasonApprovedByToken = "AutoApprovedByJoinToken"

	// acceptedOnAnnotation notes on a ManagedCluster that the hub has accepted it
	// by itself, once and never again.
	acceptedOnAnnotation = "open-cluster-management.io/automatically-accepted-on"
)

// autoAccept accepts on the authority of a join token that says so: the cluster
// and the request, as a person would. A cluster that was accepted before and is
// not now was denied by somebody, who has the last word.
func (p *pass) autoAccept(ctx context.Context) error {
	wanted := p.e.Spec.AutoAccept != nil && !p.e.EverIssued() && !p.e.Status.State.Final() && p.mine() && p.cluster.DeletionTimestamp.IsZero()
	if !wanted || !p.first.usable() || p.overtakenBy() != "" {
		return nil
	}
	if !p.cluster.Spec.HubAcceptsClient {
		if _, before := p.cluster.Annotations[acceptedOnAnnotation]; before || decidedBefore(p.cluster) {
			p.yield()
			return nil
		}
		if err := p.acceptCluster(ctx); err != nil {
			return err
		}
	}
	if !p.first.undecided() {
		return nil
	}
	p.notef("ManagedClusterAutoApproved", "Approve", "Cluster %s was accepted by the join token %s of %s.",
		p.e.Spec.ClusterName, p.e.Spec.TokenID, p.e.Spec.AutoAccept.By)
	return p.approve(ctx, p.first, reasonApprovedByToken,
		fmt.Sprintf("Join token %s, made by %s, allows acceptance without a person.", p.e.Spec.TokenID, p.e.Spec.AutoAccept.By))
}

// yield leaves a cluster denied that somebody denied, and says so once (T56).
func (p *pass) yield() {
	const why = "DeniedBefore"
	if said := meta.FindStatusCondition(p.e.Status.Conditions, v1alpha1.ConditionAccepted); said != nil && said.Reason == why {
		return
	}
	p.setCondition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, why,
		"the join token allows acceptance by itself, but the cluster was denied before: a person has to accept it")
	p.warnf("ManagedClusterAutoApprovalSkipped", "Approve", "Join token %s of %s would accept cluster %s by itself, but a hub admin denied it before: that stands until a person accepts it.",
		p.e.Spec.TokenID, p.e.Spec.AutoAccept.By, p.e.Spec.ClusterName)
}

// acceptCluster sets acceptance and the note of it in one write.
func (p *pass) acceptCluster(ctx context.Context) error {
	before := p.cluster.DeepCopy()
	if p.cluster.Annotations == nil {
		p.cluster.Annotations = map[string]string{}
	}
	p.cluster.Annotations[acceptedOnAnnotation] = p.now.UTC().Format(time.RFC3339)
	p.cluster.Spec.HubAcceptsClient = true
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := p.client.Patch(ctx, p.cluster, patch, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("accepting ManagedCluster %q by join token: %w", p.cluster.Name, err)
	}
	return nil
}

// approve approves a request as the hub.
func (p *pass) approve(ctx context.Context, r *request, why, message string) error {
	object := r.object.DeepCopy()
	object.Status.Conditions = append(object.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: why, Message: message, LastUpdateTime: metav1.NewTime(p.now),
	})
	if err := p.client.SubResource("approval").Update(ctx, object, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("approving CertificateSigningRequest %q: %w", object.Name, err)
	}
	r.object = object
	return nil
}

// fail notes on a request why it will never be signed.
func (p *pass) fail(ctx context.Context, r *request, problem error) error {
	if r.failed() != nil {
		return nil
	}
	object := r.object.DeepCopy()
	object.Status.Conditions = append(object.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue,
		Reason: reason.InvalidCSR, Message: problem.Error(), LastUpdateTime: metav1.NewTime(p.now),
	})
	if err := p.client.Status().Update(ctx, object, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("marking CertificateSigningRequest %q as failed: %w", object.Name, err)
	}
	r.object = object
	return nil
}

// renew approves and signs the request for a key that the agent, known by its
// present certificate, has asked the hub to record as its next.
func (p *pass) renew(ctx context.Context) error {
	if p.renewal == nil || p.e.Status.State.Final() || !p.e.EverIssued() || !p.accepted() {
		return nil
	}
	if problem := p.renewal.invalid(); problem != nil {
		return p.fail(ctx, p.renewal, problem)
	}
	if p.renewal.undecided() {
		err := p.approve(ctx, p.renewal, reasonApprovedRenewal, "Auto approving Managed cluster agent certificate: its key is recorded as the next of an accepted cluster.")
		if err != nil {
			return err
		}
		p.notef("ManagedClusterCSRAutoApproved", "Approve", "Renewal request %s of cluster %s was approved.", p.renewal.object.Name, p.e.Spec.ClusterName)
	}
	return p.signNext(ctx)
}
