// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"fairlead.dev/fairlead/internal/identity"
)

// mutateWork puts the hub's finalizer on a new work (MW-02), which would else be
// patched in before it is first delivered. Where no agent comes for the works,
// nobody would ever take it off, and there it is not put on.
func (w *Webhooks) mutateWork(ctx context.Context, req admission.Request) admission.Response {
	if req.Operation != admissionv1.Create || !w.cfg.Served(ctx, req.Namespace) {
		return admission.Allowed("")
	}
	var work struct {
		Metadata struct {
			Finalizers []string `json:"finalizers"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(req.Object.Raw, &work); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	finalizers := work.Metadata.Finalizers
	if slices.Contains(finalizers, identity.ManifestWorkFinalizer) {
		return admission.Allowed("")
	}
	return patched(map[string]any{"op": "add", "path": "/metadata/finalizers", "value": append(finalizers, identity.ManifestWorkFinalizer)})
}

// patched says yes, with these operations of a JSON patch, if there are any.
func patched(operations ...map[string]any) admission.Response {
	if len(operations) == 0 {
		return admission.Allowed("")
	}
	raw, err := json.Marshal(operations)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: true, Patch: raw, PatchType: &kind}}
}
