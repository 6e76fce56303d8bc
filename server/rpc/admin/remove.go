// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	workv1 "open-cluster-management.io/api/work/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// letGoAttempts is how often a work that changes meanwhile is read again.
const letGoAttempts = 5

// leftPage is how many works are read at once: they may be big.
const leftPage = 50

// DeleteCluster deletes a ManagedCluster with the caller's own token and returns;
// the hub cleans up after it. With force it does not wait for a spoke that is
// gone: it takes the hub's finalizer off the cluster's works, also with the
// caller's own token, and tells what is left on the spoke.
func (s clusterService) DeleteCluster(ctx context.Context, r *adminv1.DeleteClusterRequest) (*adminv1.DeleteClusterResponse, error) {
	if _, err := s.asked(ctx, r.GetName()); err != nil {
		return nil, err
	}
	who, by, err := s.authorize(ctx, authorizationv1.ResourceAttributes{Verb: "delete", Group: managedClusters.Group, Resource: managedClusters.Resource, Name: r.GetName()})
	if err != nil {
		return nil, err
	}
	out := &adminv1.DeleteClusterResponse{}
	if r.GetForce() {
		if err := s.mayForce(ctx, who, r); err != nil {
			return nil, err
		}
		if out.LeftBehind, err = who.leftBehind(ctx, r.GetName()); err != nil || r.GetDryRun() {
			return out, err
		}
	}
	var options metav1.DeleteOptions
	if r.GetUid() != "" {
		uid := types.UID(r.GetUid())
		options.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	err = who.Dynamic.Resource(managedClusters).Delete(ctx, r.GetName(), options)
	if err != nil && (!r.GetForce() || !apierrors.IsNotFound(err)) { // what is left of one that is gone can be forced, too
		return nil, kubernetesError(err, "deleting cluster %q", r.GetName())
	}
	done := deed{action: "DeleteCluster", actor: by, cluster: r.GetName(), before: "registered", after: "to be removed"}
	s.audit(ctx, done, "reason", r.GetReason(), "force", r.GetForce(), "worksLeftBehind", len(out.GetLeftBehind()))
	if !r.GetForce() {
		return out, nil
	}
	s.tellf(ctx, done, "ManagedClusterForceDeleted", "Cluster %s was deleted by force by %s: what %d works applied there was left behind.",
		r.GetName(), by, len(out.GetLeftBehind()))
	for _, work := range out.GetLeftBehind() {
		if err := who.letGo(ctx, work.GetRef()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// mayForce refuses whoever could not do all of it, while the agent can still
// clean up, and without the name.
func (s clusterService) mayForce(ctx context.Context, who *caller, r *adminv1.DeleteClusterRequest) error {
	for _, verb := range []string{"delete", "patch"} {
		access := authorizationv1.ResourceAttributes{Verb: verb, Group: manifestWorks.Group, Resource: manifestWorks.Resource, Namespace: r.GetName()}
		if err := who.Allowed(ctx, access); err != nil {
			return err
		}
	}
	sessions, err := s.sessionsOf(ctx, r.GetName())
	if err != nil {
		return err
	}
	if len(sessions) > 0 {
		return fail(codes.FailedPrecondition, reason.ClusterConnected, "cluster %q is connected: its agent can take off the spoke what works applied there", r.GetName())
	}
	if !r.GetDryRun() && r.GetConfirm() != r.GetName() {
		return fail(codes.InvalidArgument, reason.InvalidArgument, "deleting cluster %q by force leaves behind what its works applied: repeat its name in confirm, which has %q", r.GetName(), r.GetConfirm())
	}
	return nil
}

// leftBehind are the works of a cluster with what their agent said it applied.
func (c *caller) leftBehind(ctx context.Context, cluster string) ([]*adminv1.WorkLeft, error) {
	var out []*adminv1.WorkLeft
	options := metav1.ListOptions{Limit: leftPage}
	for {
		list, err := c.Dynamic.Resource(manifestWorks).Namespace(cluster).List(ctx, options)
		if err != nil {
			return nil, kubernetesError(err, "listing the works of cluster %q", cluster)
		}
		for i := range list.Items {
			out = append(out, &adminv1.WorkLeft{Ref: workRef(&list.Items[i]), Resources: applied(&list.Items[i])})
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return out, nil
		}
	}
}

// applied names what a work's status says is on the spoke.
func applied(u *unstructured.Unstructured) []string {
	work := &workv1.ManifestWork{}
	if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, work) != nil {
		return nil // what cannot be read cannot be told
	}
	var names []string
	for _, m := range work.Status.ResourceStatus.Manifests {
		meta := m.ResourceMeta
		names = append(names, fmt.Sprintf("%s, %s %s",
			strings.TrimPrefix(meta.Group+"/"+meta.Version, "/"), meta.Kind, strings.TrimPrefix(meta.Namespace+"/"+meta.Name, "/")))
	}
	return names
}

// letGo deletes a work without the spoke's word that it is clean.
func (c *caller) letGo(ctx context.Context, ref *adminv1.WorkRef) error {
	works := c.Dynamic.Resource(manifestWorks).Namespace(ref.GetClusterName())
	uid := types.UID(ref.GetUid())
	err := works.Delete(ctx, ref.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	for range letGoAttempts {
		if err == nil {
			err = withoutFinalizer(ctx, works, ref)
		}
		if !apierrors.IsConflict(err) {
			break
		}
		err = nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return kubernetesError(err, "letting go of work %q of cluster %q", ref.GetName(), ref.GetClusterName())
	}
	return nil
}

// withoutFinalizer takes the hub's finalizer off exactly that work.
func withoutFinalizer(ctx context.Context, works dynamic.ResourceInterface, ref *adminv1.WorkRef) error {
	work, err := works.Get(ctx, ref.GetName(), metav1.GetOptions{})
	if err != nil || string(work.GetUID()) != ref.GetUid() {
		return err
	}
	others := slices.DeleteFunc(work.GetFinalizers(), func(f string) bool { return f == identity.ManifestWorkFinalizer })
	raw, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": work.GetResourceVersion(), "finalizers": others}})
	if err != nil {
		return err
	}
	_, err = works.Patch(ctx, ref.GetName(), types.MergePatchType, raw, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}
