// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/internal/workrules"
)

const (
	// executeAs is the verb by which a user may have a work applied as somebody.
	executeAs = "execute-as"
	// defaultExecutor is who a work without executor is applied as (WH-18).
	defaultExecutor = "system:serviceaccount::klusterlet-work-sa"
)

// checkExecutor asks, with the user of the request, whether they may have the
// work applied as its executor. One that stays as it was is not asked for.
func (w *Webhooks) checkExecutor(ctx context.Context, req admission.Request, before, after *workv1.ManifestWorkExecutor) error {
	if req.Operation == admissionv1.Update && equality.Semantic.DeepEqual(before, after) {
		return nil
	}
	if after == nil && !w.cfg.CheckNilExecutor {
		return nil
	}
	executor, err := executorName(after)
	if err != nil {
		return err
	}
	user := req.UserInfo
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, Groups: user.Groups, UID: user.UID, Extra: map[string]authorizationv1.ExtraValue{},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: executeAs, Group: workv1.GroupName, Resource: "manifestworks", Namespace: req.Namespace, Name: executor,
		},
	}}
	for key, values := range user.Extra {
		review.Spec.Extra[key] = authorizationv1.ExtraValue(values)
	}
	if err := w.cfg.Client.Create(ctx, review); err != nil {
		return fmt.Errorf("asking whether %q may %s %q in namespace %q: %w", user.Username, executeAs, executor, req.Namespace, err)
	}
	if !review.Status.Allowed {
		return &forbidden{fmt.Sprintf("user %q may not have works applied as %q in namespace %q: ask for a Role there with verb %s on manifestworks.%s and that resourceName",
			user.Username, executor, req.Namespace, executeAs, workv1.GroupName)}
	}
	return nil
}

func executorName(executor *workv1.ManifestWorkExecutor) (string, error) {
	if executor == nil {
		return defaultExecutor, nil
	}
	account := executor.Subject.ServiceAccount
	if executor.Subject.Type != workv1.ExecutorSubjectTypeServiceAccount || account == nil {
		return "", &workrules.Error{
			Reason: reason.InvalidArgument, Field: "spec.executor.subject",
			Message: fmt.Sprintf("is of type %q: want ServiceAccount, and serviceAccount with namespace and name", executor.Subject.Type),
		}
	}
	return serviceaccount.MakeUsername(account.Namespace, account.Name), nil
}
