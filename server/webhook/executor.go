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

// executorChange is what a request makes of an executor.
type executorChange struct {
	// path is where it is in the object; namespace is where works are applied as it,
	// "" everywhere.
	path, namespace string
	before, after   *workv1.ManifestWorkExecutor
}

// checkExecutor asks, with the user of the request, whether they may have works
// applied as an executor. One that stays as it was is not asked for.
func (w *Webhooks) checkExecutor(ctx context.Context, req admission.Request, change executorChange) error {
	if req.Operation == admissionv1.Update && equality.Semantic.DeepEqual(change.before, change.after) {
		return nil
	}
	if change.after == nil && !w.cfg.CheckNilExecutor {
		return nil
	}
	executor, err := change.name()
	if err != nil {
		return err
	}
	right := authorizationv1.ResourceAttributes{
		Verb: executeAs, Group: workv1.GroupName, Resource: "manifestworks", Namespace: change.namespace, Name: executor,
	}
	return w.demand(ctx, req.UserInfo, right, fmt.Sprintf("have works applied as %q", executor))
}

func (c executorChange) name() (string, error) {
	executor := c.after
	if executor == nil {
		return defaultExecutor, nil
	}
	account := executor.Subject.ServiceAccount
	if executor.Subject.Type != workv1.ExecutorSubjectTypeServiceAccount || account == nil {
		return "", &workrules.Error{
			Reason: reason.InvalidArgument, Field: c.path + ".subject",
			Message: fmt.Sprintf("is of type %q: want ServiceAccount, and serviceAccount with namespace and name", executor.Subject.Type),
		}
	}
	return serviceaccount.MakeUsername(account.Namespace, account.Name), nil
}
