// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/agent"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/test/house"
)

func errorContains(err error, text string) bool { return strings.Contains(err.Error(), text) }

// joinWith puts another token into a join string.
func joinWith(t *testing.T, text, token string) string {
	t.Helper()
	join, err := pki.ParseJoinString(text)
	require.NoError(t, err)
	join.Token = token
	out, err := join.Encode()
	require.NoError(t, err)
	return out
}

// detached waits until the hub says that the spoke has left.
func (w *town) detached() {
	w.t.Helper()
	w.until("the hub to say Detached", func() error {
		if e := w.enrollments()[0]; e.Status.State != v1alpha1.StateDetached {
			return errors.New(string(e.Status.State))
		}
		detached, available := w.condition(identity.ConditionDetached), w.condition(clusterv1.ManagedClusterConditionAvailable)
		if detached.Status != metav1.ConditionTrue || available.Status != metav1.ConditionUnknown || available.Reason != "ManagedClusterDetached" {
			return fmt.Errorf("%+v %+v", detached, available)
		}
		return nil
	})
}

// TestT82_rights_taken_away has an agent with rights of a ServiceAccount, which
// the spoke's admin takes away.
func TestT82_rights_taken_away(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: w.name, Namespace: "default"}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: w.name, Namespace: "default"}},
	}
	require.NoError(t, w.spoke.Create(t.Context(), account))
	require.NoError(t, w.spoke.Create(t.Context(), binding))
	token := &authenticationv1.TokenRequest{}
	require.NoError(t, w.spoke.SubResource("token").Create(t.Context(), account, token))

	cfg := agent.Default()
	cfg.Join, cfg.ClusterName, cfg.DataDir, cfg.HTTPListen = w.cli("token", "create", w.name), w.name, t.TempDir(), ""
	cfg.REST = rest.AnonymousClientConfig(w.spokePlane.RESTConfig())
	cfg.REST.BearerToken = token.Status.Token
	cfg.ConsentPeriod, cfg.ConsentGrace = 50*time.Millisecond, 300*time.Millisecond
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	a, err := agent.New(cfg)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	w.available()
	w.applied(w.work("stays"))

	require.NoError(t, w.spoke.Delete(t.Context(), binding))
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "CONSENT_WITHDRAWN: the agent's rights on the spoke were taken away")
	case <-time.After(patience):
		t.Fatal("the agent goes on")
	}
	w.detached()
	raw, err := os.ReadFile(filepath.Join(cfg.DataDir, "credentials.json"))
	require.NoError(t, err)
	require.NotContains(t, string(raw), "PRIVATE KEY", "the credentials are removed")
	_, err = w.there("stays")
	require.NoError(t, err, "workloads stay")
}

// TestT82_unjoin joins and leaves one spoke again and again, as its admin would:
// first with the hub there, then without.
func TestT82_unjoin(t *testing.T) {
	for _, step := range []struct {
		name string
		run  func(*town)
	}{
		{"RQ-06_keep_what_works_applied", unjoinKeep},
		{"RQ-06_delete_what_works_applied", unjoinDelete},
		{"RQ-06_an_agent_in_the_cluster", unjoinDeployment},
		{"RQ-06_with_the_hub_down", unjoinHubDown},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(newTown(t)) })
	}
}

// joinAsAdmin is what the spoke's admin does, with a real «fairlead join».
func (w *town) joinAsAdmin() {
	w.t.Helper()
	w.cli("join", w.cli("token", "create", w.name), "--spoke-kubeconfig="+w.spokePlane.Kubeconfig(),
		"--agent=process", "--agent-binary="+w.binaries.Agent, "--data-dir="+w.dataDir())
	w.t.Cleanup(func() { _, _ = w.hub.CLI(context.Background(), w.unjoinArgs()...) }) // ends what a failed test left
	w.available()
}

func (w *town) dataDir() string { return filepath.Join(w.dir, "admin-"+w.name) }

func (w *town) unjoinArgs(more ...string) []string {
	return append([]string{"unjoin", "--spoke-kubeconfig=" + w.spokePlane.Kubeconfig(), "--data-dir=" + w.dataDir(), "--timeout=60s"}, more...)
}

// clean looks whether nothing of the agent is left.
func (w *town) clean() {
	t := w.t
	_, err := os.Stat(w.dataDir())
	require.ErrorIs(t, err, os.ErrNotExist)
	var roles rbacv1.ClusterRoleList
	var bindings rbacv1.ClusterRoleBindingList
	require.NoError(t, errors.Join(w.spoke.List(t.Context(), &roles), w.spoke.List(t.Context(), &bindings)))
	for _, role := range roles.Items {
		require.NotContains(t, role.Name, "fairlead")
	}
	for _, binding := range bindings.Items {
		require.NotContains(t, binding.Name, "fairlead")
	}
	w.until("the namespace to go", func() error {
		if err := w.spoke.Get(t.Context(), client.ObjectKey{Name: identity.AgentNamespace}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
}

func unjoinKeep(w *town) {
	t := w.t
	w.joinAsAdmin()
	w.applied(w.work("stays"))
	out := w.cli(w.unjoinArgs()...)
	require.Contains(t, out, "cluster "+w.name+" has left hub-")
	w.detached()
	w.clean()
	stays, err := w.there("stays")
	require.NoError(t, err)
	require.Empty(t, stays.OwnerReferences, "the garbage collector has no ground to take it")
	var inventories workv1.AppliedManifestWorkList
	if err := w.spoke.List(t.Context(), &inventories); !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) { // with other agents there the kind stays
		require.NoError(t, err)
		for _, one := range inventories.Items {
			require.NotEqual(t, "stays", one.Spec.ManifestWorkName)
		}
	}
	w.event("ManagedClusterDetached")
	w.cli("delete", "cluster", w.name, "--force", "--confirm", w.name, "--wait", "--timeout=60s")
	require.Empty(t, w.cluster().Name, "what unjoin said to do on the hub works")
}

func unjoinDelete(w *town) {
	w.joinAsAdmin()
	w.applied(w.work("goes"))
	w.cli(w.unjoinArgs("--on-detach=delete")...)
	w.detached()
	w.clean()
	_, err := w.there("goes")
	require.True(w.t, apierrors.IsNotFound(err), "%v", err)
	w.cli(w.unjoinArgs("--name=" + w.name)...) // nothing is left to do, and that is no error
}

func unjoinHubDown(w *town) {
	t := w.t
	w.joinAsAdmin()
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"leaseDurationSeconds":3}}`))
	require.NoError(t, w.kube.Patch(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: w.name}}, patch))
	w.applied(w.work("stays"))
	w.hub.Kill()
	_, err := w.hub.CLI(t.Context(), w.unjoinArgs()...)
	require.NoError(t, err)
	w.clean()
	_, err = w.there("stays")
	require.NoError(t, err)
	require.NoError(t, w.hub.Launch())
	require.NoError(t, w.hub.Ready(t.Context()))
	w.until("the hub to say Unknown after one lease", func() error {
		if c := w.condition(clusterv1.ManagedClusterConditionAvailable); c.Status != metav1.ConditionUnknown || c.Reason != "ManagedClusterLeaseUpdateStopped" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

// unjoinDeployment: the agent is a Deployment of its spoke. There is no kubelet, so
// this process runs what its Pod would: the agent, with the Pod's ServiceAccount,
// for as long as the Deployment is there.
func unjoinDeployment(w *town) {
	t := w.t
	var group errgroup.Group
	group.Go(func() error {
		_, err := w.hub.CLI(t.Context(), "join", w.cli("token", "create", w.name), "--spoke-kubeconfig="+w.spokePlane.Kubeconfig(),
			"--agent=deployment", "--image=registry.example/fairlead-agent:v1", "--timeout=90s")
		return err
	})
	t.Cleanup(func() { _, _ = w.hub.CLI(context.Background(), w.unjoinArgs()...) }) // ends what a failed test left
	own := client.ObjectKey{Namespace: identity.AgentNamespace, Name: "fairlead-agent"}
	deployment := &appsv1.Deployment{}
	w.until("the Deployment and its Pod", func() error {
		var pods corev1.PodList
		if err := errors.Join(w.spoke.Get(t.Context(), own, deployment), w.spoke.List(t.Context(), &pods, client.InNamespace(own.Namespace))); err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d Pods", len(pods.Items))
		}
		return nil
	})
	require.Contains(t, deployment.Spec.Template.Spec.Containers[0].Args, "--cluster-name="+w.name)
	join := deployment.Spec.Template.Spec.Containers[0].Env[0].ValueFrom.SecretKeyRef
	secret := &corev1.Secret{}
	require.NoError(t, w.spoke.Get(t.Context(), client.ObjectKey{Namespace: own.Namespace, Name: join.Name}, secret))
	config, err := w.spokePlane.TokenConfig(t.Context(), own.Namespace, own.Name)
	require.NoError(t, err)

	cfg := agent.Default()
	cfg.Join, cfg.ClusterName, cfg.Store, cfg.HTTPListen, cfg.REST = string(secret.Data[join.Key]), w.name, agent.StoreSecrets, "", config
	cfg.AgentID, cfg.Log = w.name, slog.New(slog.NewTextHandler(t.Output(), nil))
	a, err := agent.New(cfg)
	require.NoError(t, err)
	running, kill := context.WithCancel(t.Context())
	defer kill()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running) }()
	w.available()
	var pods corev1.PodList
	require.NoError(t, w.spoke.List(t.Context(), &pods, client.InNamespace(own.Namespace)))
	pod := &pods.Items[0]
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	require.NoError(t, w.spoke.Status().Update(t.Context(), pod)) // as its kubelet would, by /readyz
	require.NoError(t, group.Wait(), "«fairlead join» sees it")
	w.applied(w.work("stays"))

	group.Go(func() error {
		return house.Until(t.Context(), "the Deployment to go", func(ctx context.Context) (bool, error) {
			gone := apierrors.IsNotFound(w.spoke.Get(ctx, own, &appsv1.Deployment{}))
			if gone {
				kill()
			}
			return gone, nil
		})
	})
	require.Contains(t, w.cli(w.unjoinArgs()...), "cluster "+w.name+" has left hub-")
	require.NoError(t, group.Wait())
	if err := <-ended; err != nil {
		require.ErrorContains(t, err, "CONSENT_WITHDRAWN") // a kubelet is slower, too
	}
	w.detached()
	w.clean()
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.ServiceAccountList{}} {
		require.NoError(t, w.spoke.List(t.Context(), list, client.InNamespace(own.Namespace)))
		require.Zero(t, meta.LenList(list), "%T", list)
	}
	_, err = w.there("stays")
	require.NoError(t, err)
	w.cli(w.unjoinArgs("--name=" + w.name)...) // nothing is left to do, and that is no error
}
