// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admission tests the hub as deploy/hub installs it: with the rights of
// its own ServiceAccount, and with the apiserver calling its webhooks through the
// Service of the manifests.
package admission

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) // the library logs to nobody
	env.Main(m, env.Options{Name: "admission"})
}

const (
	manifests = "../../../deploy/hub"
	// patience bounds every wait; machines that run tests are busy.
	patience = time.Minute
	hubUser  = "system:serviceaccount:" + identity.HubNamespace + ":fairlead-hub"
)

// world is a hub cluster with deploy/hub applied. What kube-proxy does, a Service
// of type ExternalName does here: the apiserver still calls the Service by its
// name, and wants a certificate for that name.
type world struct {
	t        *testing.T
	plane    *env.Plane
	kube     client.Client // everything is allowed
	binaries house.Binaries
	webhook  string // where the hub serves webhooks
	config   house.HubConfig
	hub      *house.Hub
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, plane: env.Shared(t)}
	dir := t.TempDir()
	var err error
	w.kube = w.client("", "")
	w.binaries, err = house.Build(t.Context(), dir, false)
	require.NoError(t, err)
	w.webhook, err = house.FreeAddress()
	require.NoError(t, err)
	_, err = w.plane.KubectlInput(t.Context(), strings.NewReader(w.rendered()), "apply", "-f", "-")
	require.NoError(t, err)
	config, err := w.plane.TokenConfig(t.Context(), identity.HubNamespace, "fairlead-hub")
	require.NoError(t, err)
	kubeconfig := dir + "/hub.kubeconfig"
	require.NoError(t, env.WriteKubeconfig(kubeconfig, config))
	w.config = house.HubConfig{Binaries: w.binaries, Dir: dir, Kubeconfig: kubeconfig, REST: w.plane.RESTConfig()}
	return w
}

// rendered is what kustomize makes of deploy/hub, with the webhook's Service
// leading to this machine.
func (w *world) rendered() string {
	_, port, _ := strings.Cut(w.webhook, ":")
	out, err := w.plane.Kubectl(w.t.Context(), "kustomize", manifests)
	require.NoError(w.t, err)
	var docs []string
	seen := 0
	for doc := range strings.SplitSeq(out, "\n---\n") {
		var o unstructured.Unstructured
		require.NoError(w.t, yaml.Unmarshal([]byte(doc), &o.Object))
		switch {
		case o.GetKind() == "Service" && o.GetName() == "fairlead-hub-webhook":
			o.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
			raw, err := yaml.Marshal(o.Object)
			require.NoError(w.t, err)
			doc = string(raw)
			seen++
		case strings.HasSuffix(o.GetKind(), "WebhookConfiguration"):
			require.Contains(w.t, doc, "port: 443")
			doc = strings.ReplaceAll(doc, "port: 443", "port: "+port)
			seen++
		}
		docs = append(docs, doc)
	}
	require.Equal(w.t, 3, seen)
	return strings.Join(docs, "\n---\n")
}

// start runs the hub's binary with the rights of the manifests, after the last
// one has ended.
func (w *world) start(flags ...string) {
	w.t.Helper()
	w.stop()
	w.config.Flags = append([]string{"--webhook-listen=" + w.webhook, "--drain-time=0s", "-v=1"}, flags...)
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	hub, err := house.StartHub(ctx, w.config)
	require.NoError(w.t, err)
	w.hub = hub
	w.t.Cleanup(w.stop)
}

func (w *world) stop() {
	if w.hub != nil {
		_, err := w.hub.Stop()
		require.NoError(w.t, err)
		w.hub = nil
	}
}

// client is one of a user; of nobody in particular, everything is allowed.
func (w *world) client(user, group string) client.Client {
	w.t.Helper()
	config := w.plane.RESTConfig()
	if user != "" {
		var err error
		config, err = w.plane.ConfigFor(user, group)
		require.NoError(w.t, err)
	}
	known := runtime.NewScheme()
	require.NoError(w.t, scheme.AddToScheme(known))
	require.NoError(w.t, clusterv1.Install(known))
	require.NoError(w.t, clusterv1beta1.Install(known))
	require.NoError(w.t, clusterv1beta2.Install(known))
	require.NoError(w.t, workv1.Install(known))
	require.NoError(w.t, workv1alpha1.Install(known))
	c, err := client.New(config, client.Options{Scheme: known})
	require.NoError(w.t, err)
	return c
}

// cli runs the CLI as the admin of the hub cluster.
func (w *world) cli(args ...string) string {
	w.t.Helper()
	ca, err := w.hub.CA(w.t.Context())
	require.NoError(w.t, err)
	flags := []string{"--hub-address=" + w.hub.AdminAddress, "--hub-ca-file=" + ca, "--kubeconfig=" + w.plane.Kubeconfig()}
	out, err := exec.CommandContext(w.t.Context(), w.binaries.CLI, append(flags, args...)...).Output()
	require.NoError(w.t, err)
	return string(out)
}

// allow gives a group rights in one namespace.
func (w *world) allow(namespace, group, name string, rules ...rbacv1.PolicyRule) {
	w.t.Helper()
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name}
	require.NoError(w.t, w.kube.Create(w.t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}))
	require.NoError(w.t, w.kube.Create(w.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group}},
	}))
}

// allowEverywhere gives a group rights in the whole cluster.
func (w *world) allowEverywhere(group string, rules ...rbacv1.PolicyRule) {
	w.t.Helper()
	meta := metav1.ObjectMeta{Name: w.plane.Unique(group)}
	require.NoError(w.t, w.kube.Create(w.t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}))
	require.NoError(w.t, w.kube.Create(w.t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group}},
	}))
}

// untilKnown waits until the apiserver knows that somebody may get objects of a
// kind in a namespace, and so what else a role of theirs says.
func untilKnown(t *testing.T, as client.Client, namespace string, kind client.Object) {
	t.Helper()
	until(t, "the rights to be known", func(ctx context.Context) error {
		return client.IgnoreNotFound(as.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "none"}, kind))
	})
}

// until waits for check to return nil.
func until(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, house.Until(ctx, what, func(ctx context.Context) (bool, error) {
		err := check(ctx)
		return err == nil, err
	}))
}

func configMap(name, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","data":{"k":%q},"kind":"ConfigMap","metadata":{"name":%q,"namespace":"default"}}`, value, name)
}

func newWork(namespace, name string, raw ...string) *workv1.ManifestWork {
	work := &workv1.ManifestWork{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	for _, manifest := range raw {
		work.Spec.Workload.Manifests = append(work.Spec.Workload.Manifests, workv1.Manifest{RawExtension: runtime.RawExtension{Raw: []byte(manifest)}})
	}
	return work
}
