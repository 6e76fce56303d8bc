// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

// TestT20_two_bad_works_among_a_hundred: of a hundred works one has a manifest
// that nobody can decode, and one a kind that the spoke does not have, until
// somebody installs it. Neither keeps the others back.
func TestT20_two_bad_works_among_a_hundred(t *testing.T) {
	t.Parallel()
	const count, broken, early = 100, 17, 42
	w := newWorld(t, takingAnyManifest(t), "--install-crds=false")
	agent := w.join("t20")
	all := names("t20", count)
	for i, name := range all {
		work := newWork(name, "1")
		switch i {
		case broken:
			work.Spec.Workload.Manifests = append(work.Spec.Workload.Manifests, raw(`{"kind":7,"metadata":{"name":"x"}}`))
		case early:
			work.Spec.Workload.Manifests = []workv1.Manifest{raw(`{"apiVersion":"example.com/v1","kind":"Gadget","metadata":{"name":"x","namespace":"default"}}`)}
		}
		_, err := w.works.WorkV1().ManifestWorks("t20").Create(t.Context(), work, metav1.CreateOptions{})
		require.NoError(t, err)
		if i == broken {
			w.refused("t20", name)
		}
	}
	for i, name := range all {
		if i != broken && i != early {
			w.settled("t20", name, "1")
		}
	}
	stored, err := agent.Metric(t.Context(), "fairlead_agent_objects_total", `code="STORED"`)
	require.NoError(t, err)
	require.GreaterOrEqual(t, stored, float64(count-1), "also the one of an unknown kind")
	rejected, err := agent.Metric(t.Context(), "fairlead_agent_objects_total", `code="REJECTED"`)
	require.NoError(t, err)
	require.InDelta(t, 1, rejected, 0, "one revision is refused once")
	w.applied("t20", all[early], metav1.ConditionFalse)

	// Nobody touches the work: the spoke itself tries again.
	generation := w.get("t20", all[early]).Generation
	w.install(gadgets)
	w.applied("t20", all[early], metav1.ConditionTrue)
	require.Equal(t, generation, w.get("t20", all[early]).Generation)

	// The next revision of the refused work is a new one.
	patch := []byte(`{"spec":{"workload":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + all[broken] + `","namespace":"default"},"data":{"value":"2"}}]}}}`)
	_, err = w.works.WorkV1().ManifestWorks("t20").Patch(t.Context(), all[broken], types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	w.settled("t20", all[broken], "2")
	require.Nil(t, meta.FindStatusCondition(w.get("t20", all[broken]).Status.Conditions, "Delivered"))
}

// gadgets is the kind that the spoke does not have at first.
const gadgets = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"gadgets.example.com"},` +
	`"spec":{"group":"example.com","scope":"Namespaced","names":{"kind":"Gadget","plural":"gadgets","singular":"gadget","listKind":"GadgetList"},` +
	`"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}`

func raw(text string) workv1.Manifest {
	return workv1.Manifest{RawExtension: runtime.RawExtension{Raw: []byte(text)}}
}

// takingAnyManifest has a hub's apiserver take manifests that are no objects of
// Kubernetes, as one does whose CRD of works is another one, before there is a hub: a
// watch of before the change drops what no object of Kubernetes has.
func takingAnyManifest(t *testing.T) func(*env.Plane) string {
	t.Helper()
	return func(plane *env.Plane) string {
		require.NoError(t, env.InstallCRDs(t.Context(), plane.RESTConfig(), deploy.HubCRDs()...))
		crds, err := apiextensions.NewForConfig(plane.RESTConfig())
		require.NoError(t, err)
		const at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/workload/properties/manifests/items/x-kubernetes-embedded-resource"
		_, err = crds.ApiextensionsV1().CustomResourceDefinitions().Patch(t.Context(), "manifestworks."+workv1.GroupName, types.JSONPatchType,
			[]byte(`[{"op":"remove","path":"`+at+`"}]`), metav1.PatchOptions{})
		require.NoError(t, err)
		works, err := workclient.NewForConfig(plane.RESTConfig())
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			work := newWork("probe", "1")
			work.Spec.Workload.Manifests = []workv1.Manifest{raw(`{"kind":7}`)}
			_, err := works.WorkV1().ManifestWorks("default").Create(t.Context(), work, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err == nil
		}, patience, 50*time.Millisecond, "the apiserver takes any manifest")
		return plane.Kubeconfig()
	}
}

// install gives the spoke a kind.
func (w *world) install(crd string) {
	w.t.Helper()
	crds, err := apiextensions.NewForConfig(w.spoke.RESTConfig())
	require.NoError(w.t, err)
	err = crds.ApiextensionsV1().RESTClient().Post().Resource("customresourcedefinitions").Body([]byte(crd)).Do(w.t.Context()).Error()
	require.NoError(w.t, err)
}

func (w *world) get(cluster, name string) *workv1.ManifestWork {
	w.t.Helper()
	work, err := w.works.WorkV1().ManifestWorks(cluster).Get(w.t.Context(), name, metav1.GetOptions{})
	require.NoError(w.t, err)
	return work
}

// refused waits until the work's status says that the agent does not take it,
// and which field it is.
func (w *world) refused(cluster, name string) {
	w.t.Helper()
	made := time.Now()
	w.until(name+" to be refused", func(ctx context.Context) (bool, error) {
		work, err := w.works.WorkV1().ManifestWorks(cluster).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		delivered := meta.FindStatusCondition(work.Status.Conditions, "Delivered")
		if delivered == nil {
			return false, fmt.Errorf("conditions %+v", work.Status.Conditions)
		}
		require.Equal(w.t, metav1.ConditionFalse, delivered.Status)
		require.Equal(w.t, reason.Undecodable, delivered.Reason)
		require.Contains(w.t, delivered.Message, "spec.workload.manifests[1]")
		return true, nil
	})
	took := time.Since(made)
	w.t.Logf("refused after %s", took)
	require.Less(w.t, took, house.Scaled(30*time.Second, 5*time.Second))
}

// applied waits until a work's condition Applied has that status.
func (w *world) applied(cluster, name string, want metav1.ConditionStatus) {
	w.t.Helper()
	w.until(fmt.Sprintf("Applied=%s of %s", want, name), func(ctx context.Context) (bool, error) {
		work, err := w.works.WorkV1().ManifestWorks(cluster).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		applied := meta.FindStatusCondition(work.Status.Conditions, workv1.WorkApplied)
		return applied != nil && applied.Status == want, fmt.Errorf("%+v", applied)
	})
}
