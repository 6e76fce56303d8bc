// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
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
)

// maxWorkJSON bounds what is decoded at all, well above any limit on manifests.
const maxWorkJSON = 2 << 20

// maxWorkName leaves room for the hub hash before the name of the spoke's
// AppliedManifestWork (MW-06).
const maxWorkName = 188

// parseWork checks a work before it is written and returns it with our
// finalizer, and the sum of its manifests in bytes. The rules are those of the
// admission webhook (WH-14 to WH-16), so that the author learns at once.
func parseWork(r *adminv1.ApplyWorkRequest, limit int) (*unstructured.Unstructured, int, error) {
	if len(r.GetWorkJson()) > maxWorkJSON {
		return nil, 0, fail(codes.InvalidArgument, reason.ObjectTooLarge, "the work is %d bytes, at most %d of manifests are taken: split it", len(r.GetWorkJson()), limit)
	}
	var work workv1.ManifestWork
	if err := json.Unmarshal([]byte(r.GetWorkJson()), &work); err != nil {
		return nil, 0, fail(codes.InvalidArgument, reason.Undecodable, "work_json is not a ManifestWork: %v", err)
	}
	out := &unstructured.Unstructured{} // numbers stay what they are: an int64 does not become a float64
	if err := kubejson.Unmarshal([]byte(r.GetWorkJson()), &out.Object); err != nil || out.Object == nil {
		return nil, 0, fail(codes.InvalidArgument, reason.Undecodable, "work_json is not a JSON object: %v", err)
	}
	if err := checkNames(r, &work); err != nil {
		return nil, 0, err
	}
	size, err := checkManifests(work.Spec.Workload.Manifests, limit)
	if err != nil {
		return nil, 0, err
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

func checkNames(r *adminv1.ApplyWorkRequest, work *workv1.ManifestWork) error {
	if r.GetName() == "" {
		r.Name = work.Name
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

func checkManifests(manifests []workv1.Manifest, limit int) (size int, err error) {
	if len(manifests) == 0 {
		return 0, fail(codes.InvalidArgument, reason.InvalidArgument, "workload manifests should not be empty: a work without manifests does nothing")
	}
	seen := make(map[string]int, len(manifests))
	for i, manifest := range manifests {
		size += len(manifest.Raw)
		id, err := manifestID(manifest.Raw)
		if err != nil {
			return 0, fail(codes.InvalidArgument, reason.Undecodable, "spec.workload.manifests[%d]: %v", i, err)
		}
		if other, ok := seen[id]; ok {
			return 0, fail(codes.InvalidArgument, reason.InvalidArgument, "spec.workload.manifests[%d] and [%d] are both %s: keep one", other, i, id)
		}
		seen[id] = i
	}
	if size > limit {
		return 0, fail(codes.InvalidArgument, reason.ObjectTooLarge, "the manifests are %d bytes in all, the limit is %d: split them into several works", size, limit)
	}
	return size, nil
}

// manifestID checks that raw is a Kubernetes object that can be applied, and
// names it.
func manifestID(raw []byte) (string, error) {
	var object unstructured.Unstructured
	if err := json.Unmarshal(raw, &object.Object); err != nil {
		return "", fmt.Errorf("not a JSON object: %w", err)
	}
	switch {
	case object.GetAPIVersion() == "":
		return "", errors.New("apiVersion is missing")
	case object.GetKind() == "":
		return "", errors.New("kind is missing")
	case object.GetGenerateName() != "":
		return "", fmt.Errorf("metadata.generateName %q: a manifest needs a fixed name, or each apply would make another object", object.GetGenerateName())
	case object.GetName() == "":
		return "", errors.New("metadata.name is missing")
	}
	return fmt.Sprintf("%s %s %s/%s", object.GetAPIVersion(), object.GetKind(), object.GetNamespace(), object.GetName()), nil
}

func hexDigest(d wire.Digest) string { return hex.EncodeToString(d[:]) }
