// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/test/env"
	"fairlead.dev/fairlead/test/house"
)

const configMap = `
apiVersion: v1
kind: ConfigMap
metadata: {name: from-the-hub, namespace: default}
data: {greeting: hello}
`

// TestJoinForReal has the real hub, the real agent and two planes: what this
// package takes for granted about the agent is so.
func TestJoinForReal(t *testing.T) {
	binaries, err := house.Build(t.Context(), t.TempDir(), false)
	require.NoError(t, err)
	plane := env.StartPlane(t, env.Options{Name: "join-hub"})
	hub, err := house.StartHub(t.Context(), house.HubConfig{Binaries: binaries, Dir: t.TempDir(), Kubeconfig: plane.Kubeconfig(), REST: plane.RESTConfig()})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = hub.Stop() }) // what does not stop is killed
	p := newPerson(t)
	var said string
	cli := func(args ...string) {
		t.Helper()
		said, err = hub.CLI(t.Context(), args...)
		require.NoError(t, err)
	}
	for why, args := range map[string][]string{
		"INVALID_NAME":     {"token", "create", "Bad_Name"},
		"INVALID_ARGUMENT": {"token", "create", "real-0", "--ttl=-5m"},
	} {
		_, err := hub.CLI(t.Context(), args...)
		require.ErrorContains(t, err, "["+why+"]", "%q", args)
	}
	cli("token", "list", "-o", "name")
	require.Empty(t, said, "what is refused leaves no token")
	cli("token", "create", "real-1")
	text := strings.TrimSpace(said)

	var group errgroup.Group
	group.Go(func() error { return p.join(t.Context(), text, "--agent", "process", "--agent-binary", binaries.Agent) })
	p.until(t, "real-1: waiting for the hub's admin to accept")
	defer p.stop(t)
	code, err := os.ReadFile(filepath.Join(p.dir, "pairing-code"))
	require.NoError(t, err)
	require.Contains(t, p.out.String(), "pairing code "+string(code))
	cli("accept", "real-1", "--pairing-code", strings.TrimSpace(string(code)))
	require.NoError(t, group.Wait())
	require.Contains(t, p.out.String(), "cluster real-1 joined hub hub-")

	file := filepath.Join(p.dir, "work.yaml")
	require.NoError(t, os.WriteFile(file, []byte(configMap), 0o600))
	cli("create", "work", "hello", "-c", "real-1", "-f", file, "--wait", "--timeout", "30s")
	there, err := p.kube.CoreV1().ConfigMaps("default").Get(t.Context(), "from-the-hub", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "hello", there.Data["greeting"])
	cli("explain", "work", "real-1/hello")
	require.Contains(t, said, "real-1/hello generation 1 is applied and available")
	cli("delete", "work", "real-1/hello", "--wait", "--timeout", "30s")
	_, err = p.kube.CoreV1().ConfigMaps("default").Get(t.Context(), "from-the-hub", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	cli("get", "clusters", "-o", "jsonpath={.items[0].available} {.items[0].works}")
	require.Equal(t, "True 0\n", said)
}
