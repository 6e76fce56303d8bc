// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// AwaitRights waits until an apiserver lets user do what each rule says, in a
// namespace or (empty) everywhere: it learns of roles and bindings by a watch, a
// moment after they were written. Of a rule, the first of each of its lists is asked
// for. config may ask for SubjectAccessReviews.
func AwaitRights(t testing.TB, config *rest.Config, user, namespace string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for _, rule := range rules {
		if namespace != "" && len(rule.NonResourceURLs) > 0 {
			continue // no binding in a namespace gives those
		}
		review := &authorizationv1.SubjectAccessReview{Spec: asks(user, namespace, rule)}
		var last error
		err := wait(ctx, func() bool {
			answer, err := clients.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			last = err
			return err == nil && answer.Status.Allowed
		})
		if err != nil {
			t.Fatalf("the apiserver does not let %q do what its role says: %+v (%v, %v)", user, rule, err, last)
		}
	}
}

func asks(user, namespace string, rule rbacv1.PolicyRule) authorizationv1.SubjectAccessReviewSpec {
	first := func(all []string) string { return append(slices.Clip(all), "")[0] }
	if len(rule.NonResourceURLs) > 0 {
		return authorizationv1.SubjectAccessReviewSpec{User: user, NonResourceAttributes: &authorizationv1.NonResourceAttributes{
			Path: first(rule.NonResourceURLs), Verb: first(rule.Verbs),
		}}
	}
	resource, subresource, _ := strings.Cut(first(rule.Resources), "/")
	return authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
		Namespace: namespace, Group: first(rule.APIGroups), Resource: resource, Subresource: subresource,
		Name: first(rule.ResourceNames), Verb: first(rule.Verbs),
	}}
}
