// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/failpoint"
	"fairlead.dev/fairlead/test/house"
)

// TestT44_killed_on_the_way_of_a_renewal has the agent end with SIGKILL at each
// point on the way of its new certificate, again and again: before it asks, with
// the answer there and not stored, and stored but not in use. It comes back by
// itself each time, and the hub never counts more than two certificates as valid.
func TestT44_killed_on_the_way_of_a_renewal(t *testing.T) {
	t.Parallel()
	const points, rounds = 3, 1
	w := newWorld(t, nil, shortLived(house.Scaled(24*time.Second, 10*time.Second))...)
	binary, err := house.BuildFaulty(t.Context(), w.dir, "agent", false)
	require.NoError(t, err)
	out, err := w.hub.CLI(t.Context(), "token", "create", "t44", "--auto-accept")
	require.NoError(t, err)
	agent, err := house.StartAgent(house.AgentConfig{Binaries: house.Binaries{Agent: binary}, Dir: w.dir, Cluster: "t44", Join: strings.TrimSpace(out), Kubeconfig: w.spoke.Kubeconfig()})
	require.NoError(t, err)
	t.Cleanup(func() { w.stopped(agent.Process) })
	w.available("t44")
	kube := w.controllerClient()
	serials := map[string]bool{}
	for n := range points * rounds {
		agent.Kill()
		require.NoError(t, agent.Launch(fmt.Sprintf("FAIRLEAD_FAULT_KILL=%s:%d", failpoint.Renew, 1+n%points)))
		w.until("the agent to die on the way", func(context.Context) (bool, error) { return !agent.Alive(), nil })
		require.NoError(t, agent.Launch())
		w.until("a session", func(ctx context.Context) (bool, error) {
			connected, err := agent.Metric(ctx, "fairlead_agent_connected")
			return connected == 1, err
		})
		name := fmt.Sprintf("t44-%d", n)
		w.create("t44", name, "1")
		w.settled("t44", name, "1")
		list := &v1alpha1.ClusterEnrollmentList{}
		require.NoError(t, kube.List(t.Context(), list))
		require.Len(t, list.Items, 1, "no new enrollment")
		certificates := list.Items[0].Status
		require.NotNil(t, certificates.Current)
		serials[certificates.Current.Serial] = true
	}
	require.GreaterOrEqual(t, len(serials), points*rounds/2+1, "certificates were renewed meanwhile")
	cloned, err := w.condition(t.Context(), "t44", "CertificateCloned")
	require.NoError(t, err)
	require.NotEqual(t, metav1.ConditionTrue, cloned.Status)
}

// controllerClient reads the hub's own kind.
func (w *world) controllerClient() client.Client {
	w.t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(w.t, v1alpha1.AddToScheme(scheme))
	kube, err := client.New(w.hubPlane.RESTConfig(), client.Options{Scheme: scheme})
	require.NoError(w.t, err)
	return kube
}
