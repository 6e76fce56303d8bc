// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
)

// demand asks whether the user of a request has a right, and returns a forbidden
// that says how to get it if not. No answer is an error, and so a no.
func (w *Webhooks) demand(ctx context.Context, user authenticationv1.UserInfo, right authorizationv1.ResourceAttributes, refusal string) error {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, Groups: user.Groups, UID: user.UID, Extra: map[string]authorizationv1.ExtraValue{},
		ResourceAttributes: &right,
	}}
	for key, values := range user.Extra {
		review.Spec.Extra[key] = authorizationv1.ExtraValue(values)
	}
	if err := w.cfg.Client.Create(ctx, review); err != nil {
		return fmt.Errorf("asking whether %q may %s %s %q: %w", user.Username, right.Verb, inWords(right), right.Name, err)
	}
	if review.Status.Allowed {
		return nil
	}
	kind, where := "ClusterRole", ""
	if right.Verb == executeAs {
		where = " in every cluster"
	}
	if right.Namespace != "" {
		kind, where = "Role", fmt.Sprintf(" in namespace %q", right.Namespace)
	}
	return &forbidden{fmt.Sprintf("user %q may not %s%s: ask for a %s with verb %s on %s and resourceName %q",
		user.Username, refusal, where, kind, right.Verb, inWords(right), right.Name)}
}

// inWords is a resource as RBAC rules and kubectl auth can-i call it.
func inWords(right authorizationv1.ResourceAttributes) string {
	resource := right.Resource + "." + right.Group
	if right.Subresource != "" {
		resource = right.Resource + "/" + right.Subresource + " in group " + right.Group
	}
	return resource
}
