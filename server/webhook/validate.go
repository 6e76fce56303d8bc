// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/internal/workrules"
)

// validateWork is WH-14 to WH-18.
func (w *Webhooks) validateWork(ctx context.Context, req admission.Request) admission.Response {
	var old, work workrules.Work
	if err := workrules.Decode(req.Object.Raw, &work); err != nil {
		return w.refuse(ctx, req, err)
	}
	if req.Operation == admissionv1.Update {
		if err := workrules.Decode(req.OldObject.Raw, &old); err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
	}
	if _, err := work.Spec.Check("spec", w.cfg.ManifestLimit); err != nil {
		return w.refuse(ctx, req, err)
	}
	if err := w.checkExecutor(ctx, req, executorChange{"spec.executor", req.Namespace, old.Spec.Executor, work.Spec.Executor}); err != nil {
		return w.refuse(ctx, req, err)
	}
	return admission.Allowed("")
}

// validateReplicaSet is WH-19. The hub makes the works of a set with its own
// rights, in whichever clusters placements choose: who writes the set needs the
// right to its executor in all of them.
func (w *Webhooks) validateReplicaSet(ctx context.Context, req admission.Request) admission.Response {
	if !w.cfg.ReplicaSets {
		return w.refuse(ctx, req, &forbidden{"ManifestWorkReplicaSets are turned off on this hub: start it with --feature-gates=ManifestWorkReplicaSet=true"})
	}
	var old, set workrules.ReplicaSet
	if err := workrules.Decode(req.Object.Raw, &set); err != nil {
		return w.refuse(ctx, req, err)
	}
	if req.Operation == admissionv1.Update {
		if err := workrules.Decode(req.OldObject.Raw, &old); err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
	}
	if _, err := set.Spec.Template.Check("spec.manifestWorkTemplate", w.cfg.ManifestLimit); err != nil {
		return w.refuse(ctx, req, err)
	}
	change := executorChange{"spec.manifestWorkTemplate.executor", metav1.NamespaceAll, old.Spec.Template.Executor, set.Spec.Template.Executor}
	if err := w.checkExecutor(ctx, req, change); err != nil {
		return w.refuse(ctx, req, err)
	}
	return admission.Allowed("")
}

// forbidden is what this user may not do, in words.
type forbidden struct{ message string }

// Error implements error.
func (f *forbidden) Error() string { return f.message }

// refuse says no with the HTTP code that clients know the kind of error by, and
// with our reason as the machine-readable cause. What is no rule is a fault of
// the hub, and a no as well.
func (w *Webhooks) refuse(ctx context.Context, req admission.Request, err error) admission.Response {
	status := metav1.Status{Status: metav1.StatusFailure, Message: wire.Truncate(err.Error())}
	cause := metav1.StatusCause{Message: status.Message}
	rule, isRule := errors.AsType[*workrules.Error](err)
	_, isForbidden := errors.AsType[*forbidden](err)
	switch {
	case isForbidden:
		status.Code, status.Reason, cause.Type = http.StatusForbidden, metav1.StatusReasonForbidden, reason.PermissionDenied
	case isRule && rule.Reason == reason.ObjectTooLarge:
		status.Code, status.Reason, cause.Type = http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, reason.ObjectTooLarge
		cause.Field = rule.Field
	case isRule:
		status.Code, status.Reason, cause.Type = http.StatusBadRequest, metav1.StatusReasonBadRequest, metav1.CauseType(rule.Reason)
		cause.Field = rule.Field
	default:
		w.cfg.Log.WarnContext(ctx, "an admission request could not be judged, so it is refused", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "error", err)
		return admission.Errored(http.StatusInternalServerError, err)
	}
	status.Details = &metav1.StatusDetails{Group: req.Kind.Group, Kind: req.Kind.Kind, Name: req.Name, Causes: []metav1.StatusCause{cause}}
	w.cfg.Log.DebugContext(ctx, "refused", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "user", req.UserInfo.Username, "why", status.Message)
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &status}}
}
