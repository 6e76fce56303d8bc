// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/test/house"
)

// TestT81_hub_never_dials_a_spoke watches the sockets of a hub, idle and busy.
func TestT81_hub_never_dials_a_spoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.unique("t81")
	hub := w.replica(hubOptions{}, w.proxy(""))
	dialled := watchSockets(t, hub)
	w.join(hub, c)
	for range 3 {
		w.put(c, nil, names(c, 5)...)
		w.equal(c)
	}
	w.remove(c, c+"-0")
	w.equal(c)
	w.linger(time.Hour)
	w.equal(c)
	seen, looks := dialled()
	require.NotZero(t, looks)
	own, spokes := hostOf(t, w.plane.RESTConfig()), hostOf(t, w.spoke.plane.RESTConfig())
	require.NotEqual(t, own, spokes)
	require.Contains(t, seen, own, "the watch works: the hub's own apiserver is there")
	for remote := range seen {
		require.Equal(t, own, remote, "the hub dialled somebody else")
	}
	t.Logf("%d looks; the hub dialled %v; spokes are at %s", looks, seen, spokes)

	t.Run("RQ-03_no_credential_of_a_spoke", func(t *testing.T) { noCredentials(t, w) })
}

func noCredentials(t *testing.T, w *world) {
	t.Helper()
	secrets, err := w.kube.CoreV1().Secrets(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, secrets.Items, "the hub's own are there")
	for _, secret := range secrets.Items {
		for key, value := range secret.Data {
			for what, text := range credentialsOf(t, w.spoke.plane.RESTConfig(), w.spoke.plane.Kubeconfig()) {
				require.NotContains(t, string(value), text, "Secret %s/%s has the %s of a spoke in %s", secret.Namespace, secret.Name, what, key)
			}
		}
	}
}

// credentialsOf is everything by which a spoke could be reached.
func credentialsOf(t *testing.T, config *rest.Config, kubeconfig string) map[string]string {
	t.Helper()
	all := map[string]string{"address": hostOf(t, config).String()}
	if config.BearerToken != "" {
		all["token"] = config.BearerToken
	}
	if len(config.KeyData) > 0 {
		all["key"] = string(config.KeyData)
	}
	raw, err := os.ReadFile(kubeconfig)
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if key == "token" || key == "client-key-data" {
			all["kubeconfig's "+key] = value
		}
	}
	require.Greater(t, len(all), 1)
	return all
}

func hostOf(t *testing.T, config *rest.Config) netip.AddrPort {
	t.Helper()
	parsed, err := url.Parse(config.Host)
	require.NoError(t, err)
	address, err := netip.ParseAddrPort(parsed.Host)
	require.NoError(t, err)
	return address
}

// watchSockets looks at a hub's connections until the returned func is called,
// which tells where those go that the hub itself opened.
func watchSockets(t *testing.T, hub *house.Hub) func() (map[netip.AddrPort]bool, int) {
	t.Helper()
	listening := map[uint16]bool{}
	for _, address := range []string{hub.AgentAddress, hub.AdminAddress, hub.HTTPAddress} {
		parsed, err := netip.ParseAddrPort(address)
		require.NoError(t, err)
		listening[parsed.Port()] = true
	}
	seen, looks := map[netip.AddrPort]bool{}, 0
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			found, err := connections(hub.PID())
			if err != nil {
				return // it has ended; a test that needs it fails by itself
			}
			looks++
			for _, c := range found {
				if !listening[c.local.Port()] {
					seen[c.remote] = true
				}
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}()
	return func() (map[netip.AddrPort]bool, int) {
		cancel()
		<-done
		return seen, looks
	}
}

type socket struct{ local, remote netip.AddrPort }

// connections are the TCP sockets of a process that have another end.
func connections(pid int) ([]socket, error) {
	own, err := inodes(pid)
	if err != nil {
		return nil, err
	}
	var all []socket
	for _, table := range []string{"tcp", "tcp6"} {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(raw)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || !own[fields[9]] {
				continue
			}
			local, okLocal := hexAddress(fields[1])
			remote, okRemote := hexAddress(fields[2])
			if okLocal && okRemote && remote.Port() != 0 {
				all = append(all, socket{local, remote})
			}
		}
	}
	return all, nil
}

// inodes are those of a process's sockets.
func inodes(pid int) (map[string]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, file := range files {
		target, err := os.Readlink(filepath.Join(dir, file.Name()))
		if inode, is := strings.CutPrefix(target, "socket:["); err == nil && is {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return own, nil
}

// hexAddress reads an address as /proc has it: words in the machine's order,
// then the port.
func hexAddress(text string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	number, errPort := hex.DecodeString(port)
	if err != nil || errPort != nil || len(number) != 2 || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	address, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), binary.BigEndian.Uint16(number)), ok
}
