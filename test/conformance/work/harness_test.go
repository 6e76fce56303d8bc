// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/agent/work"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// tick is how often conditions are looked at.
const tick = 20 * time.Millisecond

// The resources that the tests look at.
var (
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	secrets     = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	services    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	widgets     = schema.GroupVersionResource{Group: "test.fairlead.dev", Version: "v1", Resource: "widgets"}
	crds        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	inventories = schema.GroupVersionResource{Group: "work.open-cluster-management.io", Version: "v1", Resource: "appliedmanifestworks"}
)

// bench is one spoke seen by one test: a namespace of its own on the shared plane, a hub hash of its own, the store that the
// executor reads and the reports that it made. It outlives the executors that the test starts on it.
type bench struct {
	t       *testing.T
	admin   dynamic.Interface
	config  *rest.Config
	ns, hub string

	mu      sync.Mutex
	works   map[string]work.Desired
	reports map[string]work.Report
	counts  map[string]int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	return newBenchSerial(t)
}

// newBenchSerial is newBench for tests that must run alone.
func newBenchSerial(t *testing.T) *bench {
	t.Helper()
	return newBenchOn(t, env.Shared(t).RESTConfig())
}

// newBenchOn makes a bench on a plane of the test's own.
func newBenchOn(t *testing.T, config *rest.Config) *bench {
	t.Helper()
	config.QPS = -1
	admin, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(uuid.NewString()))
	b := &bench{
		t: t, admin: admin, config: config, ns: "t-" + hex.EncodeToString(sum[:6]), hub: hex.EncodeToString(sum[:]),
		works: map[string]work.Desired{}, reports: map[string]work.Report{}, counts: map[string]int{},
	}
	b.create("", fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", b.ns))
	return b
}

// inNamespace returns a bench whose helpers look into another namespace.
func (b *bench) inNamespace(ns string) *bench {
	return &bench{t: b.t, admin: b.admin, config: b.config, ns: ns, hub: b.hub}
}

// executor is a running executor.
type executor struct {
	*work.Controller
	stop func()
}

// start runs an executor on the bench until the test ends or stop is called; edits change its configuration.
func (b *bench) start(edits ...func(*work.Config)) *executor {
	b.t.Helper()
	config := work.Config{
		REST: b.config, HubHash: b.hub, Source: b, Reporter: b, StatusSyncInterval: time.Second, Workers: 4,
		ExecutorRecheck: 500 * time.Millisecond,
		Logger:          slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	}
	for _, edit := range edits {
		edit(&config)
	}
	controller, err := work.New(config)
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- controller.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				b.t.Errorf("the executor ended with %v", err)
			}
		case <-time.After(patience):
			b.t.Error("the executor did not end")
		}
	})
	b.t.Cleanup(stop)
	return &executor{Controller: controller, stop: stop}
}

// Get is work.Source.
func (b *bench) Get(name string) (work.Desired, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	desired, ok := b.works[name]
	return desired, ok
}

// Names is work.Source.
func (b *bench) Names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name := range b.works {
		names = append(names, name)
	}
	return names
}

// Report is work.Reporter.
func (b *bench) Report(report work.Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports[report.Name] = report
	b.counts[report.Name]++
}

func (b *bench) report(name string) work.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reports[name]
}

func (b *bench) reportCount(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts[name]
}

// put stores a work as wanted, as the store would after a delivery.
func (b *bench) put(desired work.Desired) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.works[desired.Work.Name] = desired
}

// drop takes a work out of the store.
func (b *bench) drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.works, name)
}

// option changes a work under construction.
type option func(*work.Desired)

func generation(n int64) option { return func(d *work.Desired) { d.Work.Generation = n } }
func withUID(uid string) option { return func(d *work.Desired) { d.Work.UID = types.UID(uid) } }
func withConfig(configs ...workv1.ManifestConfigOption) option {
	return func(d *work.Desired) { d.Work.Spec.ManifestConfigs = configs }
}

func deleteOption(option workv1.DeleteOption) option {
	return func(d *work.Desired) { d.Work.Spec.DeleteOption = &option }
}

// work makes a work of YAML documents in which NS stands for the bench's namespace; some arguments may be options.
func (b *bench) work(name string, manifests []string, options ...option) work.Desired {
	b.t.Helper()
	desired := work.Desired{Work: &workv1.ManifestWork{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "cluster1", UID: types.UID(b.ns + "-" + name), Generation: 1},
	}, Digest: []byte(name)}
	for _, text := range manifests {
		raw, err := yaml.YAMLToJSON([]byte(b.local(text)))
		require.NoError(b.t, err)
		manifest := workv1.Manifest{RawExtension: runtime.RawExtension{Raw: raw}}
		desired.Work.Spec.Workload.Manifests = append(desired.Work.Spec.Workload.Manifests, manifest)
	}
	for _, option := range options {
		option(&desired)
	}
	return desired
}

func (b *bench) local(text string) string { return strings.ReplaceAll(text, "NS", b.ns) }

// deliver stores a work, tells the executor, and waits for a report on that very generation and UID.
func (b *bench) deliver(e *executor, desired work.Desired) work.Report {
	b.t.Helper()
	b.put(desired)
	e.Enqueue(desired.Work.Name)
	return b.waitReport(desired.Work.Name, func(r work.Report) bool {
		return r.UID == string(desired.Work.UID) && r.ObservedGeneration == desired.Work.Generation
	})
}

// waitReport waits until the newest report on a work satisfies ok.
func (b *bench) waitReport(name string, ok func(work.Report) bool) work.Report {
	b.t.Helper()
	b.eventually(func() error {
		if r := b.report(name); r.Name == "" || !ok(r) {
			return fmt.Errorf("the last report on %s is %s", name, describe(r))
		}
		return nil
	})
	return b.report(name)
}

func describe(r work.Report) string {
	if r.Status == nil {
		return fmt.Sprintf("%+v", r)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "generation %d", r.ObservedGeneration)
	for _, c := range r.Status.Conditions {
		fmt.Fprintf(&text, "; %s=%s %s %q", c.Type, c.Status, c.Reason, c.Message)
	}
	for _, m := range r.Status.ResourceStatus.Manifests {
		fmt.Fprintf(&text, "\n  %s/%s", m.ResourceMeta.Kind, m.ResourceMeta.Name)
		for _, c := range m.Conditions {
			fmt.Fprintf(&text, "; %s=%s %s %q", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return text.String()
}

// settled reports whether everything is applied and available.
func settled(r work.Report) bool {
	return r.Status != nil && meta.IsStatusConditionTrue(r.Status.Conditions, "Applied") &&
		meta.IsStatusConditionTrue(r.Status.Conditions, "Available")
}

// apply delivers a work and waits until all of it is applied and available.
func (b *bench) apply(e *executor, desired work.Desired) work.Report {
	b.t.Helper()
	b.put(desired)
	e.Enqueue(desired.Work.Name)
	return b.waitReport(desired.Work.Name, func(r work.Report) bool {
		return r.UID == string(desired.Work.UID) && r.ObservedGeneration == desired.Work.Generation && settled(r)
	})
}

// remove marks a work as to be deleted and waits until it is reported as finalized.
func (b *bench) remove(e *executor, name string) work.Report {
	b.t.Helper()
	b.markDeleted(e, name)
	desired, _ := b.Get(name)
	return b.waitReport(name, func(r work.Report) bool { return r.Finalized && r.UID == string(desired.Work.UID) })
}

func (b *bench) markDeleted(e *executor, name string) {
	desired, _ := b.Get(name)
	desired.Delete = work.DeleteRequested
	b.put(desired)
	e.Enqueue(name)
}

// eventually waits until check returns nil.
func (b *bench) eventually(check func() error) {
	b.t.Helper()
	var last error
	for n, deadline := 0, time.Now().Add(patience); time.Now().Before(deadline); n++ {
		if last = check(); last == nil {
			return
		}
		house.Pause(b.t.Context(), n)
	}
	b.t.Fatalf("gave up after %s: %v", patience, last)
}

// in returns the resource in the bench's namespace, or cluster-wide for resources that have none.
func (b *bench) in(resource schema.GroupVersionResource) dynamic.ResourceInterface {
	if resource == namespaces || resource == inventories || resource == crds {
		return b.admin.Resource(resource)
	}
	return b.admin.Resource(resource).Namespace(b.ns)
}

func (b *bench) get(resource schema.GroupVersionResource, name string) *unstructured.Unstructured {
	b.t.Helper()
	obj, err := b.in(resource).Get(b.t.Context(), name, metav1.GetOptions{})
	require.NoError(b.t, err)
	return obj
}

func (b *bench) exists(resource schema.GroupVersionResource, name string) bool {
	b.t.Helper()
	_, err := b.in(resource).Get(b.t.Context(), name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		require.NoError(b.t, err)
	}
	return err == nil
}

func (b *bench) waitGone(resource schema.GroupVersionResource, name string) {
	b.t.Helper()
	b.eventually(func() error {
		if b.exists(resource, name) {
			return fmt.Errorf("%s %s is still there", resource.Resource, name)
		}
		return nil
	})
}

// names lists the objects of a resource in the bench's namespace.
func (b *bench) names(resource string) []string {
	b.t.Helper()
	gvr := schema.GroupVersionResource{Version: "v1", Resource: resource}
	if resource == "deployments" {
		gvr.Group = "apps"
	}
	list, err := b.in(gvr).List(b.t.Context(), metav1.ListOptions{})
	require.NoError(b.t, err)
	var names []string
	for _, item := range list.Items {
		names = append(names, item.GetName())
	}
	return names
}

func containsText(text, part string) bool { return strings.Contains(text, part) }

// create makes an object by hand, as manager.
func (b *bench) create(manager, text string) *unstructured.Unstructured {
	b.t.Helper()
	obj := &unstructured.Unstructured{}
	raw, err := yaml.YAMLToJSON([]byte(b.local(text)))
	require.NoError(b.t, err)
	require.NoError(b.t, obj.UnmarshalJSON(raw))
	resource, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
	object := b.admin.Resource(resource).Namespace(obj.GetNamespace())
	made, err := object.Create(b.t.Context(), obj, metav1.CreateOptions{FieldManager: manager})
	require.NoError(b.t, err)
	return made
}

// edit changes an object by hand, by a merge patch.
func (b *bench) edit(resource schema.GroupVersionResource, name, patch string, subresources ...string) *unstructured.Unstructured {
	b.t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(patch))
	require.NoError(b.t, err)
	edited, err := b.in(resource).Patch(b.t.Context(), name, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: "somebody"}, subresources...)
	require.NoError(b.t, err)
	return edited
}

func (b *bench) delete(resource schema.GroupVersionResource, name string) {
	b.t.Helper()
	require.NoError(b.t, b.in(resource).Delete(b.t.Context(), name, metav1.DeleteOptions{}))
}

// field returns the value at a path of an object, nil if it is not there.
func field(obj *unstructured.Unstructured, path ...string) any {
	value, _, _ := unstructured.NestedFieldNoCopy(obj.Object, path...)
	return value
}

// waitField waits until a field of an object has a value.
func (b *bench) waitField(resource schema.GroupVersionResource, name string, want any, path ...string) *unstructured.Unstructured {
	b.t.Helper()
	var obj *unstructured.Unstructured
	b.eventually(func() error {
		var err error
		if obj, err = b.in(resource).Get(b.t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if got := field(obj, path...); got != want {
			return fmt.Errorf("%s %s has %v at %v, want %v", resource.Resource, name, got, path, want)
		}
		return nil
	})
	return obj
}

// inventoryName returns the name of a work's AppliedManifestWork.
func (b *bench) inventoryName(name string) string { return b.hub + "-" + name }

// inventory returns the resources that a work's AppliedManifestWork lists, as "resource/name".
func (b *bench) inventory(name string) []string {
	b.t.Helper()
	applied := b.appliedWork(name)
	list := []string{}
	for _, r := range applied.Status.AppliedResources {
		list = append(list, r.Resource+"/"+r.Name)
	}
	return list
}

func (b *bench) appliedWork(name string) *workv1.AppliedManifestWork {
	b.t.Helper()
	obj := b.get(inventories, b.inventoryName(name))
	applied := &workv1.AppliedManifestWork{}
	require.NoError(b.t, runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, applied))
	return applied
}

// manifest returns the status of one manifest by name.
func manifest(t *testing.T, r work.Report, name string) workv1.ManifestCondition {
	t.Helper()
	require.NotNil(t, r.Status)
	for _, m := range r.Status.ResourceStatus.Manifests {
		if m.ResourceMeta.Name == name {
			return m
		}
	}
	t.Fatalf("no manifest %s in %s", name, describe(r))
	return workv1.ManifestCondition{}
}

func cond(t *testing.T, conditions []metav1.Condition, kind string) metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(conditions, kind)
	require.NotNil(t, c, "no condition %s in %v", kind, conditions)
	return *c
}

// words returns a condition's status, reason and message.
func words(c metav1.Condition) string { return fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message) }

func configMap(name, data string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: NS}, data: {%s}}", name, data)
}
