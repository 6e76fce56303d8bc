// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta2 "open-cluster-management.io/api/cluster/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/agent/cluster"
	"fairlead.dev/fairlead/internal/identity"
)

// TestManagedNamespaces follows the namespaces of a cluster set to a spoke and
// back, through restarts, until the cluster is deleted.
func TestManagedNamespaces(t *testing.T) {
	w := newTown(t)
	hub := &corev1.ConfigMap{}
	require.NoError(t, w.kube.Get(t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: "fairlead-hub"}, hub))
	s := &spaces{town: w, label: cluster.NamespaceLabel(hub.Data["hub-id"])}
	require.Len(t, s.label, len("clusterset.open-cluster-management.io/")+63)

	// An agent with files makes no namespace of its own, and has nowhere to make events.
	require.NoError(t, client.IgnoreAlreadyExists(w.spoke.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: identity.AgentNamespace}})))

	made, found, stuck := w.name+"-made", w.name+"-found", w.name+"-stuck"
	s.create(found, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"team": "a"}}})
	s.create(stuck, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"fairlead.dev/test"}}})
	require.NoError(t, w.spoke.Delete(t.Context(), s.namespace(stuck)))
	s.makeSet(made, found, stuck)
	w.join("--cluster-healthcheck-period=1h") // nothing waits for that

	t.Run("RA-37_namespaces_of_the_set_are_made_and_labelled", func(t *testing.T) {
		s.t = t
		s.setLabel("true")
		s.labelled(made, "true")
		s.labelled(found, "true")
		require.Equal(t, "a", s.namespace(found).Labels["team"])
		s.condition(made, metav1.ConditionTrue, "NamespaceApplied")
		s.condition(found, metav1.ConditionTrue, "NamespaceApplied")
		s.told("NamespaceApplied", made)

		message := s.condition(stuck, metav1.ConditionFalse, "NamespaceApplyFailed").Message
		require.Contains(t, message, fmt.Sprintf("namespace %q is being deleted", stuck))
		leaving := s.namespace(stuck)
		leaving.Finalizers = nil
		require.NoError(t, w.spoke.Update(t.Context(), leaving))
		s.condition(stuck, metav1.ConditionTrue, "NamespaceApplied")
		s.labelled(stuck, "true")
	})

	t.Run("RA-37_RA-29_what_somebody_takes_away_comes_back_at_once", func(t *testing.T) {
		s.t = t
		there := s.namespace(made)
		require.NoError(t, w.spoke.Patch(t.Context(), there, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{%q:null}}}`, s.label))))
		s.labelled(made, "true")
		require.Equal(t, there.UID, s.namespace(made).UID)
		require.NoError(t, w.spoke.Delete(t.Context(), there))
		w.until("another namespace", func() error {
			if now := s.namespace(made); now.UID == there.UID || now.UID == "" || now.Labels[s.label] != "true" {
				return errors.New("not yet")
			}
			return nil
		})
	})

	t.Run("RA-37_an_agent_in_sync_is_sent_nothing", func(t *testing.T) {
		s.t = t
		_, err := w.agent.Stop()
		require.NoError(t, err)
		require.NoError(t, w.agent.Launch())
		w.until("a session", func() error {
			connected, err := w.agent.Metric(t.Context(), "fairlead_agent_connected")
			if err == nil && connected != 1 {
				err = errors.New("not connected")
			}
			return err
		})
		s.patchSet(made, found) // the next thing to be sent is this
		s.labelled(stuck, "false")
		acks, err := w.agent.Metric(t.Context(), "fairlead_agent_objects_total")
		require.NoError(t, err)
		require.InDelta(t, 1, acks, 0)
	})

	t.Run("RA-38_what_is_managed_no_more_stays_with_label_false", func(t *testing.T) {
		s.t = t
		s.told("NamespaceUnmanaged", stuck)
		w.agent.Kill()
		s.setLabel("")
		w.until("the hub to ask for nothing", func() error {
			if have := w.cluster().Status.ManagedNamespaces; len(have) > 0 {
				return fmt.Errorf("%+v", have)
			}
			return nil
		})
		require.Equal(t, "true", s.namespace(made).Labels[s.label], "nobody is there who could know")
		require.NoError(t, w.agent.Launch())
		for _, name := range []string{made, found, stuck} {
			s.labelled(name, "false")
			require.True(t, s.namespace(name).DeletionTimestamp.IsZero())
		}
		require.Equal(t, "a", s.namespace(found).Labels["team"])
	})

	t.Run("RA-38_deleting_the_cluster_deletes_no_namespace", func(t *testing.T) {
		s.t = t
		s.setLabel("true")
		s.labelled(made, "true")
		w.cli("delete", "cluster", w.name, "--wait", "--timeout=60s")
		for _, name := range []string{made, found} {
			s.labelled(name, "false")
			require.True(t, s.namespace(name).DeletionTimestamp.IsZero())
		}
	})
}

// spaces is a town with a cluster set of its own.
type spaces struct {
	*town
	label string
}

func (s *spaces) create(name string, namespace *corev1.Namespace) {
	s.t.Helper()
	namespace.Name = name
	require.NoError(s.t, s.spoke.Create(s.t.Context(), namespace))
}

// namespace is empty but for its name where there is none.
func (s *spaces) namespace(name string) *corev1.Namespace {
	namespace := &corev1.Namespace{}
	_ = s.spoke.Get(s.t.Context(), client.ObjectKey{Name: name}, namespace) // told by what is missing
	namespace.Name = name
	return namespace
}

func (s *spaces) wanted(names []string) (wanted []clusterv1.ManagedNamespaceConfig) {
	for _, name := range names {
		wanted = append(wanted, clusterv1.ManagedNamespaceConfig{Name: name})
	}
	return wanted
}

// makeSet makes a set that has clusters with label namespaces=<its name>.
func (s *spaces) makeSet(namespaces ...string) {
	s.t.Helper()
	set := &clusterv1beta2.ManagedClusterSet{ObjectMeta: metav1.ObjectMeta{Name: s.name}}
	set.Spec.ClusterSelector = clusterv1beta2.ManagedClusterSelector{
		SelectorType: clusterv1beta2.LabelSelector, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{s.name: "true"}},
	}
	set.Spec.ManagedNamespaces = s.wanted(namespaces)
	require.NoError(s.t, s.kube.Create(s.t.Context(), set))
}

func (s *spaces) patchSet(namespaces ...string) {
	s.t.Helper()
	set := &clusterv1beta2.ManagedClusterSet{}
	require.NoError(s.t, s.kube.Get(s.t.Context(), client.ObjectKey{Name: s.name}, set))
	set.Spec.ManagedNamespaces = s.wanted(namespaces)
	require.NoError(s.t, s.kube.Update(s.t.Context(), set))
}

// setLabel puts the cluster into the set, or takes it out.
func (s *spaces) setLabel(value string) {
	s.t.Helper()
	label := `null`
	if value != "" {
		label = `"` + value + `"`
	}
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, s.name, label))
	require.NoError(s.t, s.kube.Patch(s.t.Context(), &clusterv1.ManagedCluster{ObjectMeta: metav1.ObjectMeta{Name: s.name}}, patch))
}

func (s *spaces) labelled(name, value string) {
	s.t.Helper()
	s.until(fmt.Sprintf("namespace %s to have %s", name, value), func() error {
		if have := s.namespace(name).Labels[s.label]; have != value {
			return fmt.Errorf("it has %q", have)
		}
		return nil
	})
}

// condition waits for the hub to be told.
func (s *spaces) condition(name string, status metav1.ConditionStatus, reason string) (found metav1.Condition) {
	s.t.Helper()
	s.until("what the hub knows of "+name, func() error {
		all := s.cluster().Status.ManagedNamespaces
		i := slices.IndexFunc(all, func(n clusterv1.ClusterSetManagedNamespaceConfig) bool { return n.Name == name })
		if i < 0 {
			return errors.New("nothing")
		}
		have := meta.FindStatusCondition(all[i].Conditions, "NamespaceAvailable")
		if have == nil || have.Status != status || have.Reason != reason {
			return fmt.Errorf("%+v", all[i])
		}
		found = *have
		return nil
	})
	return found
}

// told waits for an Event in the agent's namespace on the spoke.
func (s *spaces) told(reason, about string) {
	s.t.Helper()
	s.until("event "+reason, func() error {
		var list corev1.EventList
		if err := s.spoke.List(s.t.Context(), &list, client.InNamespace(identity.AgentNamespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if e := &list.Items[i]; e.Reason == reason && e.Message != "" && e.Type == corev1.EventTypeNormal && strings.Contains(e.Message, about) {
				return nil
			}
		}
		return errors.New("there is none yet")
	})
}
