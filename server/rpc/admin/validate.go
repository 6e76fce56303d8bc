// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/hex"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubejson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation"
	workv1 "open-cluster-management.io/api/work/v1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/internal/workrules"
)

// maxRest is what a work may have besides its manifests: metadata, options, and a
// status that is ignored.
const maxRest = 1 << 20

// maxMetadata is what of it metadata may have: annotations have at most 256 KiB
// in Kubernetes. Each of very many labels would cost the hub, and everybody who
// caches works, many times its length.
const maxMetadata = 320 << 10

// maxWorkName leaves room for the hub hash before the name of the spoke's
// AppliedManifestWork (MW-06).
const maxWorkName = 188

// parseWork checks a work before it is written and returns it with our
// finalizer, and the sum of its manifests in bytes. The rules are those of the
// admission webhook, so that the author learns at once, webhook or not. Nothing is
// decoded that could still be too large (T74).
func parseWork(r *adminv1.ApplyWorkRequest, limit int) (*unstructured.Unstructured, int, error) {
	if len(r.GetWorkJson()) > limit+maxRest {
		return nil, 0, fail(codes.InvalidArgument, reason.ObjectTooLarge, "the work is %d bytes, at most %d of manifests are taken: split it", len(r.GetWorkJson()), limit)
	}
	raw := []byte(r.GetWorkJson())
	var work workrules.Work
	if err := workrules.Decode(raw, &work); err != nil {
		return nil, 0, fail(codes.InvalidArgument, reason.Undecodable, "work_json is not a ManifestWork: %v", err)
	}
	if work.Metadata.Size > maxMetadata {
		return nil, 0, fail(codes.InvalidArgument, reason.ObjectTooLarge, "metadata is %d bytes, at most %d are taken: use fewer labels and annotations", work.Metadata.Size, maxMetadata)
	}
	if err := checkNames(r, &work); err != nil {
		return nil, 0, err
	}
	size, err := work.Spec.Check("spec", limit)
	if rule, ok := errors.AsType[*workrules.Error](err); ok {
		return nil, 0, fail(codes.InvalidArgument, rule.Reason, "%v", rule)
	}
	out := &unstructured.Unstructured{} // numbers stay what they are: an int64 does not become a float64
	if err := kubejson.Unmarshal(raw, &out.Object); err != nil {
		return nil, 0, fail(codes.InvalidArgument, reason.Undecodable, "work_json is not a JSON object: %v", err)
	}
	out.SetAPIVersion(workv1.GroupVersion.String())
	out.SetKind("ManifestWork")
	out.SetName(r.GetName())
	out.SetNamespace(r.GetClusterName())
	if finalizers := out.GetFinalizers(); !slices.Contains(finalizers, identity.ManifestWorkFinalizer) {
		out.SetFinalizers(append(finalizers, identity.ManifestWorkFinalizer))
	}
	for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"} {
		unstructured.RemoveNestedField(out.Object, "metadata", field)
	}
	delete(out.Object, "status")
	return out, size, nil
}

func checkNames(r *adminv1.ApplyWorkRequest, work *workrules.Work) error {
	if r.GetName() == "" {
		r.Name = work.Metadata.Name
	}
	switch problems := validation.IsDNS1123Subdomain(r.GetName()); {
	case len(problems) > 0:
		return fail(codes.InvalidArgument, reason.InvalidName, "work name %q is not an RFC 1123 subdomain: lower-case letters, digits, '-' and '.'", r.GetName())
	case len(r.GetName()) > maxWorkName:
		return fail(codes.InvalidArgument, reason.InvalidName, "work name %q has %d characters, at most %d are possible (the spoke prefixes it with 65)", r.GetName(), len(r.GetName()), maxWorkName)
	case work.Kind != "" && (work.Kind != "ManifestWork" || work.APIVersion != workv1.GroupVersion.String()):
		return fail(codes.InvalidArgument, reason.Undecodable, "work_json is a %s %s: want %s ManifestWork", work.APIVersion, work.Kind, workv1.GroupVersion)
	}
	return nil
}

func hexDigest(d wire.Digest) string { return hex.EncodeToString(d[:]) }
