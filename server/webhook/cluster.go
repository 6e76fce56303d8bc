// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"fairlead.dev/fairlead/internal/clusterset"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/internal/workrules"
)

// decodeClusters reads a request's ManagedCluster and what it was before; that is
// empty for a new one.
func decodeClusters(req admission.Request) (before, after *clusterv1.ManagedCluster, err error) {
	before, after = &clusterv1.ManagedCluster{}, &clusterv1.ManagedCluster{}
	if err := json.Unmarshal(req.Object.Raw, after); err != nil {
		return nil, nil, &workrules.Error{Reason: reason.Undecodable, Message: fmt.Sprintf("this is no ManagedCluster: %v", err)}
	}
	if req.Operation != admissionv1.Update {
		return before, after, nil
	}
	if err := json.Unmarshal(req.OldObject.Raw, before); err != nil {
		return nil, nil, fmt.Errorf("reading ManagedCluster %q as it was: %w", req.Name, err)
	}
	return before, after, nil
}

// validateCluster is WH-06 to WH-11.
func (w *Webhooks) validateCluster(ctx context.Context, req admission.Request) admission.Response {
	before, after, err := decodeClusters(req)
	if err != nil {
		return w.refuse(ctx, req, err)
	}
	if err := checkCluster(req.Operation, after); err != nil {
		return w.refuse(ctx, req, err)
	}
	if err := w.checkAcceptance(ctx, req, before, after); err != nil {
		return w.refuse(ctx, req, err)
	}
	if err := w.checkSets(ctx, req, before.Labels[clusterv1beta2.ClusterSetLabel], after.Labels[clusterv1beta2.ClusterSetLabel]); err != nil {
		return w.refuse(ctx, req, err)
	}
	return admission.Allowed("")
}

// checkCluster is WH-06 and WH-07. A name that cannot be a namespace's is refused
// for every new cluster: it could never be accepted.
func checkCluster(operation admissionv1.Operation, cluster *clusterv1.ManagedCluster) error {
	if problems := validation.IsDNS1123Label(cluster.Name); len(problems) > 0 && (operation == admissionv1.Create || len(cluster.Spec.ManagedClusterClientConfigs) > 0) {
		return &workrules.Error{
			Reason: reason.InvalidName, Field: "metadata.name",
			Message: fmt.Sprintf("is %q, which cannot be the name of the cluster's namespace: %s", cluster.Name, strings.Join(problems, "; ")),
		}
	}
	for i, config := range cluster.Spec.ManagedClusterClientConfigs {
		if u, err := url.Parse(config.URL); err != nil || u.Scheme != "https" || u.Host == "" {
			return &workrules.Error{
				Reason: reason.InvalidArgument, Field: fmt.Sprintf("spec.managedClusterClientConfigs[%d].url", i),
				Message: fmt.Sprintf("is %q: want https:// and a host", config.URL),
			}
		}
	}
	return nil
}

// checkAcceptance is WH-08 to WH-10.
func (w *Webhooks) checkAcceptance(ctx context.Context, req admission.Request, before, after *clusterv1.ManagedCluster) error {
	if !after.Spec.HubAcceptsClient || before.Spec.HubAcceptsClient {
		return nil
	}
	right := authorizationv1.ResourceAttributes{Verb: "update", Group: identity.RegisterGroup, Resource: "managedclusters", Subresource: "accept", Name: after.Name}
	if err := w.demand(ctx, req.UserInfo, right, fmt.Sprintf("accept cluster %q", after.Name)); err != nil {
		return err
	}
	namespace := &corev1.Namespace{}
	if err := w.cfg.Client.Get(ctx, client.ObjectKey{Name: after.Name}, namespace); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("looking whether namespace %q is terminating: %w", after.Name, err)
	}
	if namespace.Status.Phase == corev1.NamespaceTerminating {
		return &forbidden{fmt.Sprintf("cluster %q cannot be accepted while the namespace of that name is terminating: try again when it is gone", after.Name)}
	}
	return nil
}

// checkSets is WH-11: who moves a cluster must be allowed to in both sets.
func (w *Webhooks) checkSets(ctx context.Context, req admission.Request, before, after string) error {
	if before == after {
		return nil
	}
	for _, set := range []string{before, after} {
		if set == "" {
			continue
		}
		right := authorizationv1.ResourceAttributes{Verb: "create", Group: clusterv1beta2.GroupName, Resource: "managedclustersets", Subresource: "join", Name: set}
		if err := w.demand(ctx, req.UserInfo, right, fmt.Sprintf("have clusters join or leave the set %q", set)); err != nil {
			return err
		}
	}
	return nil
}

// mutateCluster is WH-02 to WH-04.
func (w *Webhooks) mutateCluster(ctx context.Context, req admission.Request) admission.Response {
	before, after, err := decodeClusters(req)
	if err != nil {
		return w.refuse(ctx, req, err)
	}
	operations, err := w.dateTaints(req.Operation, before.Spec.Taints, after.Spec.Taints)
	if err != nil {
		return w.refuse(ctx, req, err)
	}
	if w.cfg.DefaultSet && after.DeletionTimestamp.IsZero() && after.Labels[clusterv1beta2.ClusterSetLabel] == "" {
		operations = append(operations, joinDefault(after.Labels))
	}
	return patched(operations...)
}

// joinDefault labels a cluster as one of the default set.
func joinDefault(labels map[string]string) map[string]any {
	if labels == nil {
		return map[string]any{"op": "add", "path": "/metadata/labels", "value": map[string]string{clusterv1beta2.ClusterSetLabel: clusterset.Default}}
	}
	key := strings.ReplaceAll(clusterv1beta2.ClusterSetLabel, "/", "~1")
	return map[string]any{"op": "add", "path": "/metadata/labels/" + key, "value": clusterset.Default}
}

// dateTaints gives the time to each new or changed taint, and keeps it for the
// others; a writer who leaves it out has said nothing about it.
func (w *Webhooks) dateTaints(operation admissionv1.Operation, before, after []clusterv1.Taint) (operations []map[string]any, err error) {
	now := w.cfg.Clock.Now().UTC().Format(time.RFC3339)
	for i := range after {
		taint, added := &after[i], now
		old, same := formerTaint(before, taint)
		if operation == admissionv1.Update && !taint.TimeAdded.IsZero() && (old == nil || !old.TimeAdded.Equal(&taint.TimeAdded)) {
			return nil, &workrules.Error{
				Reason: reason.InvalidArgument, Field: fmt.Sprintf("spec.taints[%d].timeAdded", i),
				Message: fmt.Sprintf("It is not allowed to set TimeAdded of Taint %q: leave it out, the hub fills it in", taint.Key),
			}
		}
		if same {
			if !taint.TimeAdded.IsZero() || old.TimeAdded.IsZero() {
				continue
			}
			added = old.TimeAdded.UTC().Format(time.RFC3339)
		}
		operations = append(operations, map[string]any{"op": "add", "path": fmt.Sprintf("/spec/taints/%d/timeAdded", i), "value": added})
	}
	return operations, nil
}

// formerTaint is the very same taint as it was, or else one of the same key.
func formerTaint(before []clusterv1.Taint, taint *clusterv1.Taint) (old *clusterv1.Taint, same bool) {
	for i := range before {
		if before[i].Key != taint.Key {
			continue
		}
		old = &before[i]
		if old.Value == taint.Value && old.Effect == taint.Effect {
			return old, true
		}
	}
	return old, false
}

// validateBinding is WH-12 and WH-13.
func (w *Webhooks) validateBinding(ctx context.Context, req admission.Request) admission.Response {
	var before, after clusterv1beta2.ManagedClusterSetBinding
	if err := json.Unmarshal(req.Object.Raw, &after); err != nil {
		return w.refuse(ctx, req, &workrules.Error{Reason: reason.Undecodable, Message: fmt.Sprintf("this is no ManagedClusterSetBinding: %v", err)})
	}
	if req.Operation == admissionv1.Update {
		if err := json.Unmarshal(req.OldObject.Raw, &before); err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
	}
	if after.Name != after.Spec.ClusterSet {
		return w.refuse(ctx, req, &workrules.Error{
			Reason: reason.InvalidArgument, Field: "metadata.name",
			Message: fmt.Sprintf("is %q: the ManagedClusterSetBinding must have the same name as the target ManagedClusterSet, %q", after.Name, after.Spec.ClusterSet),
		})
	}
	if req.Operation == admissionv1.Update && before.Spec.ClusterSet == after.Spec.ClusterSet {
		return admission.Allowed("")
	}
	right := authorizationv1.ResourceAttributes{Verb: "create", Group: clusterv1beta2.GroupName, Resource: "managedclustersets", Subresource: "bind", Name: after.Spec.ClusterSet}
	if err := w.demand(ctx, req.UserInfo, right, fmt.Sprintf("bind the set %q to a namespace", after.Spec.ClusterSet)); err != nil {
		return w.refuse(ctx, req, err)
	}
	return admission.Allowed("")
}
