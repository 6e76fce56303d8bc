// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Claims that every spoke makes.
const (
	ClaimID      = "id.k8s.io"
	ClaimVersion = "kubeversion.open-cluster-management.io"

	spokeOnlyLabel   = "open-cluster-management.io/spoke-only"
	maxClaimValue    = 1024
	defaultMaxClaims = 20
	claimsPage       = 500
)

func claimResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "cluster.open-cluster-management.io", Version: "v1alpha1", Resource: "clusterclaims"}
}

// claims are what the spoke says of itself: the reserved ones, and the
// ClusterClaims that people or tools made on it (RA-33, RA-35, RA-36).
func (w *Watcher) claims(ctx context.Context, fingerprint, version string) map[string]string {
	claims := map[string]string{}
	made := w.madeClaims(ctx)
	names := make([]string, 0, len(made))
	for name := range made {
		if !reserved(name) {
			names = append(names, name)
			continue
		}
		claims[name] = made[name]
	}
	slices.Sort(names)
	if len(names) > w.cfg.MaxClaims {
		w.cfg.Log.WarnContext(ctx, "the spoke has more claims than are reported", "claims", len(names), "limit", w.cfg.MaxClaims)
		names = names[:w.cfg.MaxClaims]
	}
	for _, name := range names {
		claims[name] = made[name]
	}
	for name, value := range map[string]string{ClaimID: fingerprint, ClaimVersion: version} {
		if _, said := claims[name]; !said && value != "" {
			claims[name] = value
		}
	}
	return claims
}

func reserved(name string) bool {
	switch name {
	case ClaimID, ClaimVersion, "platform.open-cluster-management.io", "product.open-cluster-management.io":
		return true
	}
	return false
}

// madeClaims reads the ClusterClaims; none where the kind is not served or may
// not be read.
func (w *Watcher) madeClaims(ctx context.Context) map[string]string {
	if w.cfg.Dynamic == nil {
		return nil
	}
	list, err := w.cfg.Dynamic.Resource(claimResource()).List(ctx, metav1.ListOptions{LabelSelector: "!" + spokeOnlyLabel, Limit: claimsPage})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		w.complain(ctx, "the spoke's ClusterClaims cannot be read", err)
		return w.Facts().Claims // what was known; the reserved names are filled in again
	}
	claims := map[string]string{}
	for i := range list.Items {
		value, _, err := unstructured.NestedString(list.Items[i].Object, "spec", "value")
		if err == nil && value != "" && len(value) <= maxClaimValue {
			claims[list.Items[i].GetName()] = value
		}
	}
	return claims
}
