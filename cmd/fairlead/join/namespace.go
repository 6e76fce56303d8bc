// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
)

// named is how many objects a sentence names.
const named = 5

// removeNamespace removes the agent's namespace, unless there is anything else in
// it: what works applied there and is to stay, or an agent of OCM's.
func (u *unjoin) removeNamespace(ctx context.Context) error {
	namespaces := u.kube.CoreV1().Namespaces()
	found, err := namespaces.Get(ctx, namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && found.DeletionTimestamp != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Namespace %q: %w", namespace, err)
	}
	others, err := u.others(ctx)
	if err != nil { // who cannot look takes nothing away
		u.o.Notef("Left alone: Namespace %s: what else is in it is not known: %v", namespace, err)
		return nil
	}
	if len(others) > 0 {
		text := strings.Join(others[:min(len(others), named)], ", ")
		if more := len(others) - named; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		u.o.Notef("Left alone: Namespace %s: there is more in it: %s", namespace, text)
		return nil
	}
	err = namespaces.Delete(ctx, namespace, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &found.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("removing Namespace %q: %w", namespace, err)
	}
	u.o.Notef("Removed: Namespace %s", namespace)
	return nil
}

// others lists what is in the agent's namespace and neither its own nor made there
// by Kubernetes.
func (u *unjoin) others(ctx context.Context) (names []string, err error) {
	objects, err := metadata.NewForConfig(u.config)
	if err != nil {
		return nil, err
	}
	lists, err := u.kube.Discovery().ServerPreferredNamespacedResourcesWithContext(ctx)
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for i := range list.APIResources {
			resource := &list.APIResources[i]
			if resource.Name == "events" || !slices.Contains(resource.Verbs, "list") {
				continue
			}
			more, err := othersOf(ctx, objects.Resource(gv.WithResource(resource.Name)), resource.Name)
			if err != nil {
				return nil, fmt.Errorf("listing %s: %w", gv.WithResource(resource.Name).GroupResource(), err)
			}
			names = append(names, more...)
		}
	}
	return names, nil
}

func othersOf(ctx context.Context, objects metadata.Getter, resource string) (names []string, err error) {
	found, err := objects.Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range found.Items {
		if name := resource + "/" + found.Items[i].Name; !expected(name, &found.Items[i]) {
			names = append(names, name)
		}
	}
	return names, nil
}

// expected tells whether an object goes with the agent, or with the namespace: it
// is deleted already, its Deployment's, a token, or what every namespace has.
func expected(name string, object *metav1.PartialObjectMetadata) bool {
	own, _ := labels.Parse(podSelector) // a constant
	_, token := object.Annotations[corev1.ServiceAccountNameKey]
	return object.DeletionTimestamp != nil || own.Matches(labels.Set(object.Labels)) || token ||
		name == "serviceaccounts/default" || name == "configmaps/kube-root-ca.crt"
}
