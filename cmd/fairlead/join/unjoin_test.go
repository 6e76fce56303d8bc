// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

func (p *person) unjoin(ctx context.Context, args ...string) error {
	o := &cli.Options{In: strings.NewReader(""), Out: p.out, Err: p.err, Now: time.Now, Timeout: p.timeout}
	cmd := Unjoin(o) //nolint:contextcheck // the context comes with ExecuteContext
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append([]string{"--spoke-kubeconfig", p.kubeconfig, "--data-dir", p.dir}, args...))
	return cmd.ExecuteContext(ctx)
}

// joined has the spoke joined by an agent outside of it, which does not run, and
// returns a client for everything else.
func (p *person) joined(t *testing.T, name string) dynamic.Interface {
	t.Helper()
	p.settled(t)
	require.NoError(t, p.join(t.Context(), joinString(t, name), "--agent", "print"))
	write(p.dir, map[string]string{keyCluster: name, keyHub: "hub-x"})
	client, err := dynamic.NewForConfig(env.Shared(t).RESTConfig())
	require.NoError(t, err)
	t.Cleanup(func() { p.settled(t) })
	return client
}

// settled waits until a namespace that is deleted is gone, for the next to join.
func (p *person) settled(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		found, err := p.kube.CoreV1().Namespaces().Get(context.WithoutCancel(t.Context()), namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err) || err == nil && found.DeletionTimestamp == nil
	}, time.Minute, 50*time.Millisecond)
}

// manifest is one object, given as YAML.
func manifest(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &object.Object))
	return object
}

// thing is an object of a work; without a manifest it is there already.
type thing struct {
	at       workv1.AppliedManifestResourceMeta
	manifest *unstructured.Unstructured
}

// applies makes what a work of the hub would have made: its inventory, and objects
// that it owns.
func applies(t *testing.T, client dynamic.Interface, things ...thing) {
	t.Helper()
	sum := sha256.Sum256([]byte("hub-x"))
	hub := hex.EncodeToString(sum[:])
	work := env.Shared(t).Unique("work")
	one, err := client.Resource(inventories).Create(t.Context(), manifest(t, fmt.Sprintf(`
apiVersion: work.open-cluster-management.io/v1
kind: AppliedManifestWork
metadata: {name: %s-%s, finalizers: [%s]}
spec: {hubHash: %s, manifestWorkName: %s}
`, hub, work, workv1.AppliedManifestWorkFinalizer, hub, work)), metav1.CreateOptions{})
	require.NoError(t, err)
	owners := []metav1.OwnerReference{{APIVersion: workv1.GroupVersion.String(), Kind: "AppliedManifestWork", Name: one.GetName(), UID: one.GetUID()}}
	var list []workv1.AppliedManifestResourceMeta
	for _, each := range things {
		list = append(list, each.at)
		objects := client.Resource(schema.GroupVersionResource{Group: each.at.Group, Version: each.at.Version, Resource: each.at.Resource}).Namespace(each.at.Namespace)
		if each.manifest != nil {
			_, err := objects.Create(t.Context(), each.manifest, metav1.CreateOptions{})
			require.NoError(t, err)
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": owners}})
		require.NoError(t, err)
		_, err = objects.Patch(t.Context(), each.at.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(t, err)
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"appliedResources": list}})
	require.NoError(t, err)
	_, err = client.Resource(inventories).Patch(t.Context(), one.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	require.NoError(t, err)
}

func at(group, version, resource, within, name string) workv1.AppliedManifestResourceMeta {
	return workv1.AppliedManifestResourceMeta{Version: version, ResourceIdentifier: workv1.ResourceIdentifier{Group: group, Resource: resource, Namespace: within, Name: name}}
}

// TestUnjoinLeavesAnOCMAgentAlone has a spoke with an agent of OCM's and none of
// ours: its Secret and its namespace have the names of ours.
func TestUnjoinLeavesAnOCMAgentAlone(t *testing.T) {
	cases := map[string]struct {
		reason string
		data   map[string]string
		err    string
	}{
		"joined":       {"its Secret has a kubeconfig", map[string]string{"kubeconfig": "of OCM", keyCluster: "eu-1"}, "this cluster has an agent of Open Cluster Management"},
		"not accepted": {"there is none yet", map[string]string{keyCluster: "eu-1", "agent-name": "x"}, "an agent that «fairlead join» did not put there"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := newPerson(t)
			p.settled(t)
			_, err := p.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
			require.True(t, err == nil || apierrors.IsAlreadyExists(err), "%v", err)
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: credentials}, StringData: tc.data}
			_, err = p.kube.CoreV1().Secrets(namespace).Create(t.Context(), secret, metav1.CreateOptions{})
			require.NoError(t, err)

			require.ErrorContains(t, p.unjoin(t.Context()), tc.err, tc.reason)
			require.ErrorContains(t, p.unjoin(t.Context(), "--name", "eu-1"), tc.err, tc.reason)
			_, err = p.kube.CoreV1().Secrets(namespace).Get(t.Context(), credentials, metav1.GetOptions{})
			require.NoError(t, err)
		})
	}
}

// TestUnjoinKeepsTheNamespaceOfOthers has a work that applied an object in the
// agent's own namespace.
func TestUnjoinKeepsTheNamespaceOfOthers(t *testing.T) {
	p := newPerson(t)
	client := p.joined(t, "eu-1")
	applies(t, client, thing{at("", "v1", "configmaps", namespace, "stays"), manifest(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: stays}}")})
	require.NoError(t, p.unjoin(t.Context()))
	require.Contains(t, p.err.String(), "Left alone: Namespace "+namespace+": there is more in it: configmaps/stays\n")
	stays, err := p.kube.CoreV1().ConfigMaps(namespace).Get(t.Context(), "stays", metav1.GetOptions{})
	require.NoError(t, err)
	require.Empty(t, stays.OwnerReferences)
	found, err := p.kube.CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	require.NoError(t, err)
	require.Nil(t, found.DeletionTimestamp)

	require.NoError(t, p.kube.CoreV1().ConfigMaps(namespace).Delete(t.Context(), "stays", metav1.DeleteOptions{}))
	require.NoError(t, p.unjoin(t.Context(), "--name", "eu-1"))
	require.Contains(t, p.err.String(), "Removed: Namespace "+namespace+"\n")
}

const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.%[1]s}
spec:
  group: %[1]s
  names: {plural: boats, singular: boat, kind: Boat, listKind: BoatList}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
  - {name: v1beta1, served: true, storage: false, schema: {openAPIV3Schema: {type: object}}}
`

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// define makes a kind with two versions, in a group of its own, and waits until it
// is served.
func define(t *testing.T, client dynamic.Interface) (group string) {
	t.Helper()
	group = env.Shared(t).Unique("boats") + ".example"
	require.NoError(t, env.InstallCRDs(t.Context(), env.Shared(t).RESTConfig(), fmt.Appendf(nil, definition, group)))
	t.Cleanup(func() {
		err := client.Resource(definitions).Delete(context.WithoutCancel(t.Context()), "boats."+group, metav1.DeleteOptions{})
		require.True(t, err == nil || apierrors.IsNotFound(err), "%v", err)
	})
	return group
}

// serves waits for what discovery and the spoke say of a version.
func serves(t *testing.T, p *person, client dynamic.Interface, gv schema.GroupVersion, want bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := p.kube.Discovery().ServerResourcesForGroupVersionWithContext(t.Context(), gv.String())
		_, listed := client.Resource(gv.WithResource("boats")).List(t.Context(), metav1.ListOptions{})
		return (err == nil) == want && (listed == nil) == want
	}, time.Minute, 20*time.Millisecond)
}

// TestUnjoinFindsWhatIsServedOtherwise has an inventory that lists an object in a
// version which is not served any more.
func TestUnjoinFindsWhatIsServedOtherwise(t *testing.T) {
	for _, onDetach := range []string{onDetachKeep, onDetachDelete} {
		t.Run(onDetach, func(t *testing.T) {
			p := newPerson(t)
			client := p.joined(t, "eu-1")
			group := define(t, client)
			old, current := schema.GroupVersion{Group: group, Version: "v1beta1"}, schema.GroupVersion{Group: group, Version: "v1"}
			serves(t, p, client, old, true)
			applies(t, client, thing{at(group, old.Version, "boats", "default", "one"), manifest(t, "{apiVersion: "+old.String()+", kind: Boat, metadata: {name: one}}")})
			retire := []byte(`[{"op": "replace", "path": "/spec/versions/1/served", "value": false}]`)
			_, err := client.Resource(definitions).Patch(t.Context(), "boats."+group, types.JSONPatchType, retire, metav1.PatchOptions{})
			require.NoError(t, err)
			serves(t, p, client, old, false)

			require.NoError(t, p.unjoin(t.Context(), "--on-detach", onDetach))
			one, err := client.Resource(current.WithResource("boats")).Namespace("default").Get(t.Context(), "one", metav1.GetOptions{})
			if onDetach == onDetachDelete {
				require.True(t, apierrors.IsNotFound(err), "%v", err)
				require.Contains(t, p.err.String(), "0 objects stay, 1 were deleted")
				return
			}
			require.NoError(t, err)
			require.Empty(t, one.GetOwnerReferences(), "the garbage collector has no ground to take it")
		})
	}
}

// TestUnjoinDeletesKinds has an object whose kind goes before it does.
func TestUnjoinDeletesKinds(t *testing.T) {
	for name, tc := range map[string]struct{ reason, said string }{
		"before": {"nothing is left to be done", "What 1 works applied: 1 objects stay, 0 were deleted"},
		"with":   {"the work deletes the kind, too", "What 1 works applied: 1 objects stay, 1 were deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPerson(t)
			client := p.joined(t, "eu-1")
			group := define(t, client)
			current := schema.GroupVersion{Group: group, Version: "v1"}
			serves(t, p, client, current, true)
			kind := thing{at: at(definitions.Group, definitions.Version, definitions.Resource, "", "boats."+group)}
			object := thing{at(group, "v1", "boats", "default", "one"), manifest(t, "{apiVersion: "+current.String()+", kind: Boat, metadata: {name: one}}")}
			if name == "with" {
				applies(t, client, kind, object)
			} else {
				applies(t, client, object)
				require.NoError(t, client.Resource(definitions).Delete(t.Context(), "boats."+group, metav1.DeleteOptions{}))
				serves(t, p, client, current, false)
			}
			require.NoError(t, p.unjoin(t.Context(), "--on-detach", onDetachDelete))
			require.Contains(t, p.err.String(), tc.said, tc.reason)
		})
	}
}

// TestUnjoinFencesAnAgent has an agent that «fairlead join» did not start, with
// rights that the spoke's admin gave it by hand, and that goes on all the while.
func TestUnjoinFencesAnAgent(t *testing.T) {
	binaries, err := house.Build(t.Context(), t.TempDir(), false)
	require.NoError(t, err)
	plane := env.StartPlane(t, env.Options{Name: "unjoin-hub"})
	hub, err := house.StartHub(t.Context(), house.HubConfig{Binaries: binaries, Dir: t.TempDir(), Kubeconfig: plane.Kubeconfig(), REST: plane.RESTConfig()})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = hub.Stop() }) // what does not stop is killed
	for _, onDetach := range []string{onDetachKeep, onDetachDelete} {
		t.Run(onDetach, func(t *testing.T) {
			p := newPerson(t)
			p.settled(t)
			t.Cleanup(func() { p.settled(t) })
			name, dir := strings.ToLower(onDetach), t.TempDir()
			p.dir = filepath.Join(dir, "data-"+name)
			cli := func(args ...string) string {
				t.Helper()
				said, err := hub.CLI(t.Context(), args...)
				require.NoError(t, err)
				return strings.TrimSpace(said)
			}
			text := cli("token", "create", name, "--auto-accept")
			require.NoError(t, p.join(t.Context(), text, "--agent", "print", "--role", "none"))
			binding := p.byHand(t)
			agent, err := house.StartAgent(house.AgentConfig{Binaries: binaries, Dir: dir, Cluster: name, Join: text, Kubeconfig: filepath.Join(p.dir, "spoke.kubeconfig")})
			require.NoError(t, err)
			t.Cleanup(agent.Kill)
			file := filepath.Join(dir, "work.yaml")
			require.NoError(t, os.WriteFile(file, []byte(configMap), 0o600))
			require.NoError(t, house.Until(t.Context(), "the work to be applied", func(ctx context.Context) (bool, error) {
				_, err := hub.CLI(ctx, "create", "work", "hello", "-c", name, "-f", file, "--wait", "--timeout", "30s")
				return err == nil, err
			}, agent.Process))
			maps := p.kube.CoreV1().ConfigMaps("default")
			before, err := maps.Get(t.Context(), "from-the-hub", metav1.GetOptions{})
			require.NoError(t, err)
			require.Len(t, before.OwnerReferences, 1)

			p.timeout = 20 * time.Second
			require.NoError(t, p.unjoin(t.Context(), "--on-detach", onDetach))
			require.True(t, agent.Alive())
			require.Contains(t, p.err.String(), " was told\n")
			after, err := maps.Get(t.Context(), "from-the-hub", metav1.GetOptions{})
			if onDetach == onDetachDelete {
				require.True(t, apierrors.IsNotFound(err), "%v", err)
			} else {
				require.NoError(t, err)
				require.Equal(t, before.UID, after.UID)
				require.Empty(t, after.OwnerReferences)
				require.NoError(t, maps.Delete(t.Context(), "from-the-hub", metav1.DeleteOptions{}))
			}
			left, err := p.kube.RbacV1().ClusterRoleBindings().Get(t.Context(), binding, metav1.GetOptions{})
			require.NoError(t, err, "what the admin made stays")
			require.Equal(t, []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "somebody-else"}}, left.Subjects)
		})
	}
}

// byHand binds a role to the agent, and to somebody else.
func (p *person) byHand(t *testing.T) (name string) {
	t.Helper()
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: env.Shared(t).Unique("by-hand")},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{
			{Kind: "ServiceAccount", Name: account, Namespace: namespace},
			{Kind: "User", APIGroup: rbacv1.GroupName, Name: "somebody-else"},
		},
	}
	_, err := p.kube.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.kube.RbacV1().ClusterRoleBindings().Delete(context.WithoutCancel(t.Context()), binding.Name, metav1.DeleteOptions{}))
	})
	return binding.Name
}

// TestUnjoinOfAnAgentThatEverybodyHelps has rights that no binding gives to the
// agent by name, so that they cannot be taken away from it.
func TestUnjoinOfAnAgentThatEverybodyHelps(t *testing.T) {
	p := newPerson(t)
	client := p.joined(t, "eu-1")
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: env.Shared(t).Unique("everybody")},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "system:serviceaccounts:" + namespace}},
	}
	bindings := p.kube.RbacV1().ClusterRoleBindings()
	_, err := bindings.Create(t.Context(), binding, metav1.CreateOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, bindings.Delete(t.Context(), binding.Name, metav1.DeleteOptions{})) }()
	applies(t, client, thing{at("", "v1", "configmaps", "default", "everybodys"), manifest(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: everybodys}}")})
	p.timeout = 2 * time.Second
	require.ErrorContains(t, p.unjoin(t.Context()), "the agent may still patch appliedmanifestworks.work.open-cluster-management.io")
	require.NoError(t, p.kube.CoreV1().ServiceAccounts(namespace).Delete(t.Context(), account, metav1.DeleteOptions{}))
	require.NoError(t, p.unjoin(t.Context(), "--name", "eu-1"), "as the hint says")
	stays, err := p.kube.CoreV1().ConfigMaps("default").Get(t.Context(), "everybodys", metav1.GetOptions{})
	require.NoError(t, err)
	require.Empty(t, stays.OwnerReferences)
	require.NoError(t, p.kube.CoreV1().ConfigMaps("default").Delete(t.Context(), "everybodys", metav1.DeleteOptions{}))
}
