// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/csaupgrade"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"fairlead.dev/fairlead/agent/work/ignore"
	"fairlead.dev/fairlead/agent/work/kinds"
	"fairlead.dev/fairlead/internal/failpoint"
)

// FieldManager is the manager of all that the agent writes, but for manifests that name another.
const FieldManager = workv1.DefaultFieldManager

// attempts is how often one object is read and written again when somebody else wrote in between.
const attempts = 5

// Action is what was done to an object.
type Action string

// The actions. Held means that the object is not as it should be and was left so because it was corrected too often lately.
const (
	Unchanged  Action = "unchanged"
	Created    Action = "created"
	Configured Action = "configured"
	Held       Action = "held"
)

// Request is one object and how it is to be applied.
type Request struct {
	Manifest Manifest
	// Resource serves the manifest's kind. The manifest's namespace is empty if and only if the kind is cluster-scoped.
	Resource schema.GroupVersionResource
	Strategy workv1.UpdateStrategyType
	// Manager and Force are for ServerSideApply; every other strategy is FieldManager's.
	Manager string
	Force   bool
	// Owner is the work's owner reference. It is put on the object, or taken off it if Orphan is true.
	Owner  metav1.OwnerReference
	Orphan bool
	// Ignore, for ServerSideApply, is what is left alone once the object exists.
	Ignore ignore.Fields
	// Settled is the last Result's Settled for the same manifest.
	Settled string
	// Correct is asked before an existing object is written to; if it returns false, the object is left alone. Nil is yes.
	Correct func() bool
	// Permit is asked before anything is written; its error is returned instead. Nil is yes.
	Permit func(ctx context.Context) error
}

func (r Request) permitted(ctx context.Context) error {
	if r.Permit == nil {
		return nil
	}
	return r.Permit(ctx)
}

// Result is the object as it is now and what was done.
type Result struct {
	Live   *unstructured.Unstructured
	Action Action
	// Missing says, beside an error, that the object is not there.
	Missing bool
	// Why is the first field that made a write necessary.
	Why string
	// Settled, if not empty, is the content of an object that differs from its manifest and stays so whatever is written.
	Settled string
}

// Applier applies objects. Its methods may be called concurrently, for different objects.
type Applier struct {
	client dynamic.Interface
}

// New returns an applier that writes through client.
func New(client dynamic.Interface) *Applier {
	return &Applier{client: client}
}

// Apply makes the object what the request says. On an error Result.Live still is the object if it could be read.
func (a *Applier) Apply(ctx context.Context, req Request) (Result, error) {
	if req.Strategy != workv1.UpdateStrategyTypeServerSideApply {
		req.Manager, req.Force, req.Ignore = FieldManager, true, ignore.Fields{}
	}
	object := a.client.Resource(req.Resource).Namespace(req.Manifest.Object.GetNamespace())
	var result Result
	for range attempts {
		var err error
		result, err = a.once(ctx, object, req)
		if err == nil || !isStale(err) {
			return result, err
		}
	}
	return result, fmt.Errorf("others kept writing to it %d times in a row; it will be tried again", attempts)
}

// once reads the object, and writes it if that is needed.
func (a *Applier) once(ctx context.Context, object dynamic.ResourceInterface, req Request) (Result, error) {
	live, err := object.Get(ctx, req.Manifest.Object.GetName(), metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	switch {
	case missing && req.Strategy != workv1.UpdateStrategyTypeReadOnly:
		return a.create(ctx, object, req)
	case err != nil:
		return Result{Missing: missing}, err
	case req.Strategy == workv1.UpdateStrategyTypeReadOnly:
		return Result{Live: live, Action: Unchanged}, nil
	}
	result := Result{Live: live, Action: Unchanged}
	todo, err := plan(req, live)
	if err != nil || todo.why == "" {
		return result, err
	}
	if req.Settled != "" && req.Settled == Content(live) {
		result.Settled = req.Settled
		return result, nil
	}
	if req.Correct != nil && !req.Correct() {
		result.Action, result.Why = Held, todo.why
		return result, nil
	}
	if err := req.permitted(ctx); err != nil {
		return result, err
	}
	written, err := a.carryOut(ctx, object, req, live, todo)
	if err != nil {
		return result, err
	}
	return settle(req, live, written, todo.why)
}

// create makes an object that is not there, with all that its manifest says, also what is to be ignored from then on.
func (a *Applier) create(ctx context.Context, object dynamic.ResourceInterface, req Request) (Result, error) {
	if err := req.permitted(ctx); err != nil {
		return Result{Missing: true}, err
	}
	made, err := a.write(ctx, object, req.on(nil), &unstructured.Unstructured{})
	if err != nil {
		return Result{Missing: true}, err
	}
	result := Result{Live: made, Action: Created}
	if err := indivisible(req, made); err != nil {
		return result, err
	}
	left, err := a.surrender(ctx, object, req, made)
	if err == nil {
		result.Live = left
	}
	return result, err
}

// settle says what came of a write: a change, or proof that the object cannot be what the manifest says.
func settle(req Request, before, after *unstructured.Unstructured, why string) (Result, error) {
	result := Result{Live: after, Action: Configured, Why: why}
	if before.GetResourceVersion() == after.GetResourceVersion() {
		result.Action = Unchanged
	}
	left, err := plan(req, after)
	if err == nil && left.why != "" {
		result.Settled = Content(after)
	}
	return result, err
}

// work is what one object needs.
type work struct {
	// why is the first reason found to write, or empty.
	why string
	// apply says that the manifest must be applied, patch that this merge patch must be written after it.
	apply bool
	patch map[string]any
}

// plan compares the live object with the request.
func plan(req Request, live *unstructured.Unstructured) (work, error) {
	var todo work
	if err := indivisible(req, live); err != nil {
		return work{}, err
	}
	given, err := surrendered(req, live)
	if err != nil {
		return work{}, err
	}
	if !given.Empty() {
		todo.why = "metadata.managedFields"
	}
	req = req.on(live)
	if !req.Orphan && !Owns(req.Owner.UID, live) {
		todo.why, todo.apply = "metadata.ownerReferences", true
	}
	if req.Strategy != workv1.UpdateStrategyTypeCreateOnly {
		why, err := unapplied(req, live, given)
		if err != nil {
			return work{}, err
		}
		if why != "" {
			todo.why, todo.apply = why, true
		}
	}
	todo.patch, err = leftover(req, live)
	if err == nil && todo.why == "" && todo.patch != nil {
		todo.why = firstKey(todo.patch)
	}
	return todo, err
}

// unapplied returns the first reason why the manifest must be applied. What is given away does not count as owned.
func unapplied(req Request, live *unstructured.Unstructured, given *fieldpath.Set) (string, error) {
	owned, err := OwnedBy(live, req.Manager)
	if err != nil {
		return "", err
	}
	if owned == nil {
		return "metadata.managedFields", nil
	}
	owned = owned.Difference(given)
	want, err := kinds.Canonical(req.Manifest.Object)
	if err != nil {
		want = req.Manifest.Object // the apiserver will say what is wrong with it
	}
	if content, ok := withOmitted(want.Object, req.Manifest.Object.Object).(map[string]any); ok {
		want = &unstructured.Unstructured{Object: content}
	}
	if path := Difference(want, live, owned); path != "" {
		return path, nil
	}
	return Dropped(req.Manifest.Object, owned), nil
}

// leftover returns a merge patch for what applying does not take away, or nil.
func leftover(req Request, live *unstructured.Unstructured) (map[string]any, error) {
	patch := map[string]any{}
	metadata := map[string]any{}
	surplus := func(ref metav1.OwnerReference) bool { return surplusReference(ref, req.Owner, !req.Orphan) }
	if refs := live.GetOwnerReferences(); slices.ContainsFunc(refs, surplus) {
		metadata["ownerReferences"] = referenceList(slices.DeleteFunc(refs, surplus))
	}
	if req.Strategy != workv1.UpdateStrategyTypeCreateOnly {
		removeKeys(metadata, "labels", live.GetLabels(), req.Manifest.dropLabels)
		removeKeys(metadata, "annotations", live.GetAnnotations(), req.Manifest.dropAnnotations)
	}
	if req.Strategy == workv1.UpdateStrategyTypeUpdate {
		foreign, err := foreignFields(req.Manifest.Object, live, req.Manager)
		if err != nil {
			return nil, err
		}
		maps.Copy(patch, foreign)
	}
	if len(metadata) > 0 {
		patch["metadata"] = metadata
	}
	if len(patch) == 0 {
		return nil, nil //nolint:nilnil // nothing to patch is no error
	}
	return patch, nil
}

func removeKeys(metadata map[string]any, name string, live map[string]string, keys []string) {
	for _, key := range keys {
		if _, ok := live[key]; !ok {
			continue
		}
		removals, ok := metadata[name].(map[string]any)
		if !ok {
			removals = map[string]any{}
			metadata[name] = removals
		}
		removals[key] = nil
	}
}

// carryOut writes what plan found: one apply and one patch, and what it takes to give away what is ignored, which happens once.
func (a *Applier) carryOut(ctx context.Context, object dynamic.ResourceInterface, req Request, live *unstructured.Unstructured, todo work) (*unstructured.Unstructured, error) {
	if todo.apply && req.Strategy == workv1.UpdateStrategyTypeCreateOnly {
		return a.patch(ctx, object, live, ReferencePatch(live, append(live.GetOwnerReferences(), req.Owner)))
	}
	live, err := a.surrender(ctx, object, req, live)
	if err == nil && todo.apply {
		live, todo.patch, err = a.reapply(ctx, object, req, live)
	}
	if err != nil || todo.patch == nil {
		return live, err
	}
	return a.patch(ctx, object, live, todo.patch)
}

// reapply applies the manifest to an object that exists. It returns the object, and what must be patched besides.
func (a *Applier) reapply(ctx context.Context, object dynamic.ResourceInterface, req Request, live *unstructured.Unstructured) (*unstructured.Unstructured, map[string]any, error) {
	live, err := a.adopt(ctx, object, req, live)
	if err != nil {
		return nil, nil, err
	}
	if live, err = a.write(ctx, object, req.on(live), live); err != nil {
		return nil, nil, err
	}
	if live, err = a.surrender(ctx, object, req, live); err != nil {
		return nil, nil, err
	}
	patch, err := leftover(req.on(live), live)
	return live, patch, err
}

// adopt turns fields that an agent with the same name once wrote by updates into applied ones, so that a field which the
// manifest does not have any more can be taken away.
func (a *Applier) adopt(ctx context.Context, object dynamic.ResourceInterface, req Request, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	updated := func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == req.Manager && entry.Operation == metav1.ManagedFieldsOperationUpdate && entry.Subresource == ""
	}
	if req.Strategy == workv1.UpdateStrategyTypeServerSideApply || !slices.ContainsFunc(live.GetManagedFields(), updated) {
		return live, nil
	}
	copied := live.DeepCopy()
	upgrade, err := csaupgrade.UpgradeManagedFieldsPatch(copied, sets.New(req.Manager), req.Manager)
	if err != nil || upgrade == nil {
		return live, err
	}
	return object.Patch(ctx, live.GetName(), types.JSONPatchType, upgrade, metav1.PatchOptions{FieldManager: req.Manager})
}

// write applies the manifest; live is what is there now, empty if nothing is.
func (a *Applier) write(ctx context.Context, object dynamic.ResourceInterface, req Request, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	body := &unstructured.Unstructured{Object: maps.Clone(req.Manifest.Object.Object)}
	metadata, _ := req.Manifest.Object.Object["metadata"].(map[string]any) // a manifest has a name, so it has metadata
	metadata = maps.Clone(metadata)
	body.Object["metadata"] = metadata
	refs := workReferences(live, req.Owner, !req.Orphan)
	if len(refs) > 0 {
		list, _ := metadata["ownerReferences"].([]any)
		list = slices.Clone(list)
		for _, ref := range refs {
			list = append(list, referenceMap(ref))
		}
		metadata["ownerReferences"] = list
	}
	if OtherWorks(req.Owner.UID, live) {
		metadata["resourceVersion"] = live.GetResourceVersion() // another work's reference must not be lost
	}
	failpoint.Pass(failpoint.Apply)
	defer failpoint.Pass(failpoint.Apply)
	return object.Apply(ctx, body.GetName(), body, metav1.ApplyOptions{FieldManager: req.Manager, Force: req.Force})
}

// patch writes a merge patch to exactly the object that was read.
func (a *Applier) patch(ctx context.Context, object dynamic.ResourceInterface, live *unstructured.Unstructured, patch map[string]any) (*unstructured.Unstructured, error) {
	metadata, _ := patch["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["uid"], metadata["resourceVersion"] = string(live.GetUID()), live.GetResourceVersion()
	patch = maps.Clone(patch)
	patch["metadata"] = metadata
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding a patch: %w", err)
	}
	failpoint.Pass(failpoint.Apply)
	defer failpoint.Pass(failpoint.Apply)
	return object.Patch(ctx, live.GetName(), types.MergePatchType, body, metav1.PatchOptions{FieldManager: FieldManager})
}

// isStale reports whether a write was refused because somebody else wrote first, and not because another field manager owns a
// field.
func isStale(err error) bool {
	if !apierrors.IsConflict(err) {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return true
	}
	return !slices.ContainsFunc(status.Status().Details.Causes, func(cause metav1.StatusCause) bool {
		return cause.Type == metav1.CauseTypeFieldManagerConflict
	})
}

// Content returns a digest of what an object says: all of it but its status and what changes with every write.
func Content(obj *unstructured.Unstructured) string {
	content := maps.Clone(obj.Object)
	delete(content, "status")
	if metadata, ok := content["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		for _, name := range []string{"resourceVersion", "managedFields", "generation"} {
			delete(metadata, name)
		}
		content["metadata"] = metadata
	}
	encoded, err := json.Marshal(content)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(encoded)
	return string(sum[:])
}

func firstKey(m map[string]any) string {
	keys := slices.Sorted(maps.Keys(m))
	return keys[0]
}
