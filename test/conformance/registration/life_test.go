// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentenroll "fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/enroll"
)

func TestLife(t *testing.T) {
	for name, row := range map[string]func(*town){
		"RQ-05_RC-66_RC-67_RA-06_delete_cleans_the_spoke_then_cuts_off": deleteCleans,
		"RC-16_RC-17_RC-18_deny_and_accept_again_with_a_real_agent":     denyAndAccept,
		"RC-20_RC-70_force_lets_go_of_a_spoke_that_is_gone":             force,
		"RC-22_RC-28_RC-21_the_list_names_who_made_the_token":           autoApproval,
		"RQ-07_RQ-01_RA-03_RA-04_RA-26_nobody_on_the_list_waits":        notListed,
		"RC-23_no_ARN_lets_a_cluster_in":                                noCloud,
		"RA-05_a_token_that_is_refused_ends_the_agent":                  refused,
		"RA-23_the_lease_is_written_when_availability_turns":            leaseOfTheHub,
		"RA-24_RA-25_RA-27_joined_and_available_without_the_lease":      joinedAndAvailable,
		"RA-10_RA-02_the_Secret_keeps_certificate_and_names":            secretOfTheAgent,
		"RC-70_on_detach_delete_cleans_up_a_spoke_that_was_forced_out":  onDetachDelete,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row(newTown(t))
		})
	}
}

func deleteCleans(w *town) {
	t := w.join().t
	first, last := w.work("first"), w.work("last")
	w.applied(first)
	w.applied(last)
	require.Contains(t, w.cluster().Finalizers, identity.ResourceCleanupFinalizer)

	out := w.cli("delete", "cluster", w.name, "--wait", "--timeout=60s")
	require.Contains(t, out, "cluster "+w.name+" is gone")
	require.Empty(t, w.cluster().Name)
	for _, name := range []string{"first", "last"} { // it was clean before the cluster went
		_, err := w.there(name)
		require.True(t, apierrors.IsNotFound(err), "%v", err)
	}
	namespace := &corev1.Namespace{}
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Name: w.name}, namespace))
	require.Nil(t, namespace.DeletionTimestamp, "RC-19: the namespace stays")
	require.NotContains(t, namespace.Labels, "fairlead.dev/leaving-cluster")
	w.event("ResourceCleanupCompleted")
	w.logged(w.agent.Log, "CLUSTER_REMOVED")
	require.True(t, w.agent.Alive(), "it waits for its own admin")
	require.Empty(t, w.cluster().Name, "RA-06: no agent makes it again")
}

func denyAndAccept(w *town) {
	t := w.join().t
	w.applied(w.work("before"))
	w.cli("revoke", w.name)
	w.until("the condition", func() error {
		if c := w.condition(clusterv1.ManagedClusterConditionHubAccepted); c.Status != metav1.ConditionFalse || c.Reason != "HubClusterAdminDenied" {
			return errors.New(c.Reason)
		}
		return nil
	})
	w.event("ManagedClusterDenied")
	w.logged(w.agent.Log, "NOT_ACCEPTED")
	after := w.work("after")
	_, err := w.there("before")
	require.NoError(t, err, "a denial touches no workload")

	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"hubAcceptsClient":true}}`))
	require.NoError(t, w.kube.Patch(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: w.name}}, patch))
	w.until("the enrollment to be in use", func() error {
		if e := w.enrollments()[0]; e.Status.State != v1alpha1.StateActive {
			return errors.New(string(e.Status.State))
		}
		return nil
	})
	_, err = w.agent.Stop() // it would wait some minutes before it asks again
	require.NoError(t, err)
	require.NoError(t, w.agent.Launch())
	w.applied(after)
	require.Len(t, w.enrollments(), 1, "with the certificate that it had")
}

func force(w *town) {
	t := w.join().t
	work := w.work("w")
	w.applied(work)
	_, err := w.hub.CLI(t.Context(), "delete", "cluster", w.name, "--force", "--confirm", w.name)
	require.ErrorContains(t, err, "[CLUSTER_CONNECTED]")
	require.Nil(t, w.cluster().DeletionTimestamp)

	w.agent.Kill()
	w.until("the hub to notice", func() error {
		_, err := w.hub.CLI(t.Context(), "delete", "cluster", w.name, "--force")
		if err == nil || !errorContains(err, "nothing was done") {
			return err
		}
		require.ErrorContains(t, err, "Left behind by work "+work.Name+":")
		require.ErrorContains(t, err, "v1, ConfigMap default/"+w.name+"-w")
		return nil
	})
	require.Nil(t, w.cluster().DeletionTimestamp)
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKeyFromObject(work), work))

	w.cli("delete", "cluster", w.name, "--force", "--confirm", w.name, "--reason", "it burned", "--wait", "--timeout=60s")
	require.Empty(t, w.cluster().Name)
	require.True(t, apierrors.IsNotFound(w.kube.Get(t.Context(), client.ObjectKeyFromObject(work), work)))
	_, err = w.there("w")
	require.NoError(t, err, "what was left behind is there")
	require.Contains(t, w.event("ManagedClusterForceDeleted").Message, listed)
	w.logged(w.hub.Log, "it burned")
}

func onDetachDelete(w *town) {
	t := w.join("--on-detach=Delete").t
	w.applied(w.work("w"))
	w.agent.Kill()
	w.until("the hub to let go", func() error {
		_, err := w.hub.CLI(t.Context(), "delete", "cluster", w.name, "--force", "--confirm", w.name)
		return err
	})
	w.gone()
	require.NoError(t, w.agent.Launch())
	w.until("the spoke to be clean", func() error {
		_, err := w.there("w")
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.New("it is there")
	})
}

func autoApproval(w *town) {
	t := w.join().t // nobody repeated the pairing code
	cluster := w.cluster()
	require.True(t, cluster.Spec.HubAcceptsClient)
	require.NotEmpty(t, cluster.Annotations["open-cluster-management.io/automatically-accepted-on"])
	require.Equal(t, listed, w.enrollments()[0].Status.AcceptedBy)
	require.Contains(t, w.event("ManagedClusterAutoApproved").Message, listed)
}

// startUnlisted has an agent ask with a token of somebody whose name is one letter
// longer than the one on the list, and waits until it waits.
func (w *town) startUnlisted() {
	w.t.Helper()
	tokens := enroll.NewTokens(w.kube, identity.HubNamespace, clock.RealClock{})
	_, presented, err := tokens.Create(w.t.Context(), enroll.Policy{ClusterName: w.name}, listed+"s")
	require.NoError(w.t, err)
	w.start(joinWith(w.t, w.cli("token", "create", w.name), presented))
	w.until("the enrollment to wait", func() error {
		if e := w.enrollments(); len(e) != 1 || e[0].Status.State != v1alpha1.StatePending {
			return errors.New("not yet")
		}
		return nil
	})
}

func notListed(w *town) {
	t := w.t
	made := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: w.name, Labels: map[string]string{"team": "a"}}}
	made.Spec.Taints = []clusterv1.Taint{{Key: "new", Effect: clusterv1.TaintEffectNoSelect}}
	require.NoError(t, w.kube.Create(t.Context(), made))
	w.startUnlisted()
	cluster := w.cluster()
	require.False(t, cluster.Spec.HubAcceptsClient)
	cluster.Spec.Taints = slices.DeleteFunc(cluster.Spec.Taints, func(taint clusterv1.Taint) bool {
		return taint.Key == clusterv1.ManagedClusterTaintUnreachable // the hub's own, by health
	})
	require.Equal(t, made.Spec, cluster.Spec)
	require.Empty(t, cluster.Status.Version.Kubernetes, "an agent that is not accepted reports nothing")
	require.Empty(t, cluster.Status.Conditions)
	w.cli("accept", w.name, "--pairing-code", w.enrollments()[0].Spec.PairingCode)
	w.available()
	require.Equal(t, made.Spec.Taints[0].Key, w.cluster().Spec.Taints[0].Key)
	require.Equal(t, "a", w.cluster().Labels["team"])
}

// noCloud: the hub knows one way in. What says to OCM from which cloud account a
// cluster comes says nothing to it, and its flags are refused.
func noCloud(w *town) {
	t := w.t
	arn := map[string]string{
		"agent.open-cluster-management.io/managed-cluster-arn":             "arn:aws:eks:eu-central-1:123456789012:cluster/" + w.name,
		"agent.open-cluster-management.io/managed-cluster-iam-role-suffix": "0123456789abcdef",
	}
	require.NoError(t, w.kube.Create(t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: w.name, Annotations: arn}}))
	w.startUnlisted()
	require.False(t, w.cluster().Spec.HubAcceptsClient)
	require.Subset(t, w.cluster().Annotations, arn)
	out, err := exec.CommandContext(t.Context(), w.binaries.Hub, "serve", "--auto-approved-arn-patterns=arn:aws:eks:.*").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "unknown flag: --auto-approved-arn-patterns")
}

// refused: an agent whose token does not count says so and ends; nothing is made.
func refused(w *town) {
	t := w.t
	join := w.cli("token", "create", w.name)
	text, err := pki.ParseJoinString(join)
	require.NoError(t, err)
	id, _, _ := strings.Cut(text.Token, ".")
	w.cli("token", "revoke", id)
	w.start(join)
	select {
	case <-w.agent.Done():
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	w.logged(w.agent.Log, reason.InvalidToken)
	require.Empty(t, w.cluster().Name)
	require.Empty(t, w.enrollments())
}

// leaseOfTheHub: for some durations of the Lease the cluster is available, by its
// session, and nobody writes the Lease until that ends.
func leaseOfTheHub(w *town) {
	t := w.t
	const seconds, durations = 3, 3
	made := &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: w.name}}
	made.Spec.LeaseDurationSeconds = seconds
	require.NoError(t, w.kube.Create(t.Context(), made))
	w.join()
	read := func() *coordinationv1.Lease {
		lease := &coordinationv1.Lease{}
		require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Namespace: w.name, Name: "managed-cluster-lease"}, lease))
		return lease
	}
	available := func() metav1.Condition { return w.condition(clusterv1.ManagedClusterConditionAvailable) }
	before, since := read(), available()
	require.Equal(t, int32(seconds), *before.Spec.LeaseDurationSeconds)
	w.until("some durations to pass", func() error {
		if now := available(); now != since { // on a busy machine it may come and go
			before, since = read(), now
		}
		if time.Since(since.LastTransitionTime.Time) < (durations+1)*seconds*time.Second {
			return errors.New("not yet")
		}
		return nil
	})
	require.Equal(t, before.ResourceVersion, read().ResourceVersion)
	w.agent.Kill()
	w.until("the Lease to say when the cluster was last heard from", func() error {
		if now := read(); available().Status != metav1.ConditionUnknown || !now.Spec.RenewTime.After(before.Spec.RenewTime.Time) {
			return fmt.Errorf("%+v", now.Spec)
		}
		return nil
	})
	var events corev1.EventList
	require.NoError(t, w.kube.List(t.Context(), &events))
	for _, e := range events.Items {
		require.NotContains(t, e.Reason, "ManagedClusterLeaseUpdate")
	}
}

// joinedAndAvailable: the hub writes the Lease; what tools may do in an agent's name
// is to read and renew it.
func joinedAndAvailable(w *town) {
	t := w.join().t
	for kind, want := range map[string][]string{
		clusterv1.ManagedClusterConditionJoined:    {"True", "ManagedClusterJoined", "Managed cluster joined"},
		clusterv1.ManagedClusterConditionAvailable: {"True", "ManagedClusterAvailable", "Managed cluster is available"},
	} {
		w.until(kind, func() error {
			c := w.condition(kind)
			if have := []string{string(c.Status), c.Reason, c.Message}; !slices.Equal(want, have) {
				return fmt.Errorf("it says %q", have)
			}
			return nil
		})
	}
	may := func(verb, namespace string) bool {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: identity.User(w.name, "agent"), Groups: []string{identity.Group(w.name), "system:open-cluster-management:managed-clusters"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Group: "coordination.k8s.io", Resource: "leases", Name: "managed-cluster-lease"},
		}}
		require.NoError(t, w.kube.Create(t.Context(), review))
		return review.Status.Allowed
	}
	require.True(t, may("get", w.name) && may("update", w.name))
	for _, verb := range []string{"create", "delete"} {
		require.False(t, may(verb, w.name), verb)
	}
	require.False(t, may("get", "default"))
	lease := &coordinationv1.Lease{}
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Namespace: w.name, Name: "managed-cluster-lease"}, lease))
	for _, field := range lease.ManagedFields {
		require.NotContains(t, field.Manager, "agent")
	}
}

func secretOfTheAgent(w *town) {
	require.NoError(w.t, w.spoke.Create(w.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.name}}))
	t := w.join("--store=secrets", "--namespace="+w.name).t
	read := func() map[string][]byte {
		secret := &corev1.Secret{}
		require.NoError(t, w.spoke.Get(t.Context(), client.ObjectKey{Namespace: w.name, Name: agentenroll.DefaultSecret}, secret))
		require.NotContains(t, secret.Data, "kubeconfig", "nothing on the spoke can call the hub's apiserver")
		return secret.Data
	}
	before := read()
	require.Equal(t, w.name, string(before["cluster-name"]))
	_, err := tls.X509KeyPair(before["tls.crt"], before["tls.key"])
	require.NoError(t, err)
	certificates, err := pki.ParseCertificates(before["tls.crt"])
	require.NoError(t, err)
	require.Equal(t, identity.User(w.name, string(before["agent-name"])), certificates[0].Subject.CommonName)

	_, err = w.agent.Stop()
	require.NoError(t, err)
	require.NoError(t, w.agent.LaunchWith(""))
	w.applied(w.work("after"))
	require.Equal(t, before, read(), "the restart was told by the Secret")
	require.Len(t, w.enrollments(), 1)
}
