// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"fairlead.dev/fairlead/internal/claim"
)

// Claims that every spoke makes.
const (
	ClaimID      = claim.ID
	ClaimVersion = claim.Version

	spokeOnlyLabel   = "open-cluster-management.io/spoke-only"
	defaultMaxClaims = 20
	claimsPage       = 500
)

func claimResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "cluster.open-cluster-management.io", Version: "v1alpha1", Resource: "clusterclaims"}
}

func propertyResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "about.k8s.io", Version: "v1alpha1", Resource: "clusterproperties"}
}

// claims are what the spoke says of itself: the reserved ones, and the
// ClusterClaims and ClusterProperties that people or tools made on it; a property
// is in place of the claim of its name (RA-33 to RA-36).
func (w *Watcher) claims(ctx context.Context, fingerprint, version string) map[string]string {
	made := map[string]string{}
	if w.cfg.Claims {
		maps.Copy(made, w.made(ctx, claimResource()))
	}
	if w.cfg.Properties {
		maps.Copy(made, w.made(ctx, propertyResource()))
	}
	reserved := func(name string) bool { return claim.Reserved(name, w.cfg.ReservedSuffixes...) }
	claims := map[string]string{}
	names := make([]string, 0, len(made))
	for name := range made {
		if !reserved(name) {
			names = append(names, name)
			continue
		}
		claims[name] = made[name]
	}
	slices.Sort(names)
	w.noteTruncated(ctx, len(names))
	for _, name := range names[:min(len(names), w.cfg.MaxClaims)] {
		claims[name] = made[name]
	}
	for name, value := range map[string]string{ClaimID: fingerprint, ClaimVersion: version} {
		if _, said := claims[name]; !said && value != "" {
			claims[name] = value
		}
	}
	return claims
}

// noteTruncated makes an event when claims begin to be cut off, and one when
// their number changes (RA-35).
func (w *Watcher) noteTruncated(ctx context.Context, found int) {
	before := w.truncated
	w.truncated = 0
	if found <= w.cfg.MaxClaims {
		return
	}
	w.truncated = found
	if found == before {
		return
	}
	note := fmt.Sprintf("%d custom claims are on this cluster and %d are reported, the first by name; see --max-custom-cluster-claims.", found, w.cfg.MaxClaims)
	w.cfg.Log.WarnContext(ctx, "the spoke has more claims than are reported", "claims", found, "limit", w.cfg.MaxClaims)
	if w.cfg.Event != nil {
		w.cfg.Event(ctx, "CustomClusterClaimsTruncated", note)
	}
}

// made reads the claims of one kind; none where it is not served or may not be
// read. Where it cannot be read, what was known stays.
func (w *Watcher) made(ctx context.Context, kind schema.GroupVersionResource) map[string]string {
	if w.cfg.Dynamic == nil {
		return nil
	}
	claims := map[string]string{}
	options := metav1.ListOptions{LabelSelector: "!" + spokeOnlyLabel, Limit: claimsPage}
	for {
		list, err := w.cfg.Dynamic.Resource(kind).List(ctx, options)
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			return nil
		}
		if err != nil {
			w.complain(ctx, "the spoke's "+kind.Resource+" cannot be read", err)
			return w.Facts().Claims // the reserved names are filled in again
		}
		for i := range list.Items {
			name := list.Items[i].GetName()
			value, _, err := unstructured.NestedString(list.Items[i].Object, "spec", "value")
			if err == nil && claim.Fits(name, value) {
				claims[name] = value
			}
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return claims
		}
	}
}

// watchClaims has claims looked at when they change (RA-29). A kind that is not
// served or may not be watched is asked for now and then.
func (w *Watcher) watchClaims() error {
	if w.cfg.Dynamic == nil {
		return nil
	}
	for kind, on := range map[schema.GroupVersionResource]bool{claimResource(): w.cfg.Claims, propertyResource(): w.cfg.Properties} {
		if !on {
			continue
		}
		informer := dynamicinformer.NewFilteredDynamicInformer(w.cfg.Dynamic, kind, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { w.nudge() },
			DeleteFunc: func(any) { w.nudge() },
			UpdateFunc: func(before, after any) {
				if versionOf(before) != versionOf(after) {
					w.nudge()
				}
			},
		})
		if err != nil {
			return fmt.Errorf("watching %s: %w", kind.Resource, err)
		}
		if err := informer.SetTransform(nameOnly); err != nil {
			return fmt.Errorf("watching %s: %w", kind.Resource, err)
		}
		err = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
			w.cfg.Log.DebugContext(ctx, "claims cannot be watched; they are asked for now and then", "kind", kind.Resource, "error", err)
		})
		if err != nil {
			return fmt.Errorf("watching %s: %w", kind.Resource, err)
		}
		w.kinds = append(w.kinds, informer)
	}
	return nil
}

// nameOnly keeps of a claim what tells that it changed; it is read anew then.
func nameOnly(obj any) (any, error) {
	if claim, ok := obj.(*unstructured.Unstructured); ok {
		slim := &unstructured.Unstructured{}
		slim.SetGroupVersionKind(claim.GroupVersionKind())
		slim.SetName(claim.GetName())
		slim.SetResourceVersion(claim.GetResourceVersion())
		return slim, nil
	}
	return obj, nil
}

func versionOf(obj any) string {
	if claim, ok := obj.(*unstructured.Unstructured); ok {
		return claim.GetResourceVersion()
	}
	return ""
}
