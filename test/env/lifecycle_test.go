// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// eventually waits for something that a component does by itself.
func eventually(t *testing.T, done func() bool, what string) {
	t.Helper()
	require.Eventually(t, done, time.Minute, 20*time.Millisecond, what)
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestPlane_several_at_once_and_nothing_left(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	const count = 3
	planes := make([]*Plane, count)
	var group sync.WaitGroup
	for i := range planes {
		group.Go(func() {
			plane, err := Start(t.Context(), Options{Name: fmt.Sprintf("several-%d", i)})
			if err == nil {
				planes[i] = plane
			}
		})
	}
	group.Wait()
	hosts := map[string]bool{}
	var pids []int
	for _, plane := range planes {
		require.NotNil(t, plane)
		hosts[plane.RESTConfig().Host] = true
		pids = append(pids, plane.PID(Etcd), plane.PID(APIServer))
		require.Zero(t, plane.PID(Scheduler), "not asked for")
	}
	require.Len(t, hosts, count, "each on a port of its own")
	for _, plane := range planes {
		plane.Stop()
		require.NoDirExists(t, plane.LogDir())
		require.Zero(t, plane.PID(APIServer))
	}
	for _, pid := range pids {
		require.False(t, alive(pid), "process %d is left", pid)
	}
	goleak.VerifyNone(t, leaks)
}

func TestPlane_survives_kills_of_its_parts(t *testing.T) {
	t.Parallel()
	plane := StartPlane(t, Options{Name: "kills"})
	maps := clientOf(t, plane.RESTConfig()).CoreV1().ConfigMaps("default")
	_, err := maps.Create(t.Context(), configMap("kept", "1"), metav1.CreateOptions{})
	require.NoError(t, err)

	require.ErrorContains(t, plane.Launch(t.Context(), APIServer), "is running already")
	before := plane.PID(APIServer)
	require.NoError(t, plane.RestartAPIServer(t.Context()))
	require.NotEqual(t, before, plane.PID(APIServer))
	_, err = maps.Get(t.Context(), "kept", metav1.GetOptions{})
	require.NoError(t, err, "the same address and data after a restart")

	plane.Kill(APIServer)
	_, err = maps.Get(t.Context(), "kept", metav1.GetOptions{})
	require.Error(t, err, "nobody answers")
	require.ErrorContains(t, plane.Signal(APIServer, syscall.SIGSTOP), "is not running")
	plane.Kill(Etcd)
	require.NoError(t, plane.Launch(t.Context(), Etcd))
	require.NoError(t, plane.Launch(t.Context(), APIServer))
	_, err = maps.Get(t.Context(), "kept", metav1.GetOptions{})
	require.NoError(t, err, "etcd's data outlives SIGKILL")
	require.NoError(t, plane.Signal(APIServer, syscall.SIGCONT))
}

func TestPlane_snapshot_and_restore(t *testing.T) {
	t.Parallel()
	plane := StartPlane(t, Options{Name: "backup"})
	maps := clientOf(t, plane.RESTConfig()).CoreV1().ConfigMaps("default")
	_, err := maps.Create(t.Context(), configMap("before", "old"), metav1.CreateOptions{})
	require.NoError(t, err)
	snapshot, err := plane.Snapshot(t.Context())
	require.NoError(t, err)

	changed, err := maps.Update(t.Context(), configMap("before", "new"), metav1.UpdateOptions{})
	require.NoError(t, err)
	_, err = maps.Create(t.Context(), configMap("after", "new"), metav1.CreateOptions{})
	require.NoError(t, err)

	require.NoError(t, plane.Restore(t.Context(), snapshot))
	restored, err := maps.Get(t.Context(), "before", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "old", restored.Data["value"])
	require.NotEqual(t, changed.ResourceVersion, restored.ResourceVersion)
	_, err = maps.Get(t.Context(), "after", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "written after the snapshot: %v", err)

	require.ErrorContains(t, plane.etcdSnapshot(t.Context(), "restore", "/nowhere", filepath.Join(t.TempDir(), "x"), peerURL), "no such file")
}

func TestPlane_with_everything(t *testing.T) {
	t.Parallel()
	plane := StartPlane(t, Options{Name: "full", ControllerManager: true, Scheduler: true, Kwok: true, Nodes: 2})
	_, err := plane.Kubectl(t.Context(), "create", "namespace", "full")
	require.NoError(t, err)
	_, err = plane.Kubectl(t.Context(), "create", "deployment", "web", "--image=none", "--replicas=3", "-n", "full")
	require.NoError(t, err)
	_, err = plane.Kubectl(t.Context(), "rollout", "status", "deployment/web", "-n", "full", "--timeout=60s")
	require.NoError(t, err)
	_, err = plane.Kubectl(t.Context(), "delete", "namespace", "full", "--timeout=60s")
	require.NoError(t, err, "the namespace controller finalises")
	_, err = plane.TokenConfig(t.Context(), "default", "default")
	require.NoError(t, err, "default ServiceAccounts exist")
}

// failing is a test that has failed.
type failing struct {
	testing.TB
	cleanups []func()
	logged   []string
}

func (f *failing) Failed() bool            { return true }
func (f *failing) Cleanup(clean func())    { f.cleanups = append(f.cleanups, clean) }
func (f *failing) Logf(s string, a ...any) { f.logged = append(f.logged, fmt.Sprintf(s, a...)) }

func TestStartPlane_keeps_logs_of_a_failure(t *testing.T) {
	t.Parallel()
	test := &failing{TB: t}
	plane := StartPlane(test, Options{Name: "failed"})
	pid := plane.PID(APIServer)
	for _, clean := range test.cleanups {
		clean()
	}
	require.False(t, alive(pid))
	require.FileExists(t, filepath.Join(plane.LogDir(), "kube-apiserver.log"))
	require.FileExists(t, filepath.Join(plane.LogDir(), "audit.log"))
	require.Len(t, test.logged, 1)
	require.Contains(t, test.logged[0], plane.LogDir())
	require.NoError(t, os.RemoveAll(plane.LogDir()))
}

// orphanVariable makes this test binary start a plane, print its processes and
// wait to be killed. Its value is the plane's folder.
const orphanVariable = "FAIRLEAD_TEST_ORPHAN"

func orphanMain() int {
	plane, err := Start(context.Background(), Options{Name: "orphan", Dir: os.Getenv(orphanVariable)})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("pids", plane.PID(Etcd), plane.PID(APIServer))
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return 0
}

func TestPlane_ends_with_its_parent(t *testing.T) {
	t.Parallel()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), orphanVariable+"="+filepath.Join(t.TempDir(), "plane"))
	_, err := parent.StdinPipe()
	require.NoError(t, err)
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	var etcd, apiserver int
	_, err = fmt.Sscanf(strings.TrimSpace(line), "pids %d %d", &etcd, &apiserver)
	require.NoError(t, err, line)
	require.True(t, alive(etcd) && alive(apiserver))

	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	eventually(t, func() bool { return !alive(etcd) && !alive(apiserver) }, "SIGKILL of the parent ends its children")
}
