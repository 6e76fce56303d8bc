// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/house"
	"fairlead.dev/fairlead/test/netfault/tunnel"
)

// token makes a join string for endpoints.
func (w *world) token(hub *house.Hub, cluster string, endpoints ...string) string {
	w.t.Helper()
	out, err := hub.CLI(w.t.Context(), "token", "create", cluster, "--auto-accept", "--endpoint", strings.Join(endpoints, ","))
	require.NoError(w.t, err)
	return strings.TrimSpace(out)
}

// logged waits until a process has written a text to its log.
func (w *world) logged(p *house.Process, text string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s to log %q", p.Name, text), func(context.Context) (bool, error) {
		raw, err := os.ReadFile(p.Log)
		return bytes.Contains(raw, []byte(text)), err
	})
}

// epoch counts the sessions that a cluster has had.
func (w *world) epoch(cluster string) int32 {
	w.t.Helper()
	lease, err := w.kube.CoordinationV1().Leases("open-cluster-management-hub").Get(w.t.Context(), "session-"+cluster, metav1.GetOptions{})
	require.NoError(w.t, err)
	require.NotNil(w.t, lease.Spec.LeaseTransitions)
	return *lease.Spec.LeaseTransitions
}

// TestProxies has a hub under a name that only the proxies resolve, so
// everything that reaches it went through them.
func TestProxies(t *testing.T) {
	t.Parallel()
	t.Run("RA-54_joins_through_proxies", joinsThroughProxies)
}

func joinsThroughProxies(t *testing.T) {
	const endpoint = "hub.fairlead.test:443"
	w := newWorld(t)
	hub := w.replica(hubOptions{flags: []string{"--endpoints=hub.fairlead.test"}}, w.proxy(""))
	ca, err := pki.NewCA("proxy root", time.Now(), time.Hour)
	require.NoError(t, err)
	cert, err := ca.IssueServing([]string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(t, err)
	caFile := filepath.Join(w.dir, "proxy.crt")
	require.NoError(t, os.WriteFile(caFile, pki.EncodeCertificates(ca.Cert), 0o600))

	for name, test := range map[string]struct {
		proxy  tunnel.Config
		config func(address string) house.AgentConfig
	}{
		"https, own CA, password": {
			tunnel.Config{TLS: &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}, User: "agent", Password: "s3cr3t"},
			func(address string) house.AgentConfig {
				return house.AgentConfig{
					Flags: []string{"--proxy-ca-file=" + caFile}, Environment: []string{"FAIRLEAD_PROXY_URL=https://agent:s3cr3t@" + address},
				}
			},
		},
		"http of the environment": {
			tunnel.Config{},
			func(address string) house.AgentConfig {
				return house.AgentConfig{Environment: []string{"HTTPS_PROXY=http://" + address, "NO_PROXY=other.test"}}
			},
		},
	} {
		t.Log(name)
		test.proxy.Names = map[string]string{endpoint: hub.AgentAddress}
		p, err := tunnel.New(test.proxy)
		require.NoError(t, err)
		t.Cleanup(p.Close)
		config := test.config(p.Address())
		config.Cluster = w.unique("ra54")
		config.Join = w.token(hub, config.Cluster, endpoint)
		agent := w.agent(config)
		w.availability(config.Cluster, metav1.ConditionTrue)
		before := len(p.Targets())
		require.GreaterOrEqual(t, before, 2, "enrollment, then the session")
		p.Cut()
		w.until("the agent to come back through the proxy", func(context.Context) (bool, error) { return len(p.Targets()) > before, nil })
		w.put(config.Cluster, nil, config.Cluster+"-w")
		w.equal(config.Cluster)
		for _, target := range p.Targets() {
			require.Equal(t, endpoint, target)
		}
		join, err := pki.ParseJoinString(config.Join)
		require.NoError(t, err)
		_, secret, _ := strings.Cut(join.Token, ".")
		require.NotContains(t, string(p.Up()), secret, "the proxy never sees the token")
		raw, err := os.ReadFile(agent.Log)
		require.NoError(t, err)
		require.NotContains(t, string(raw), "s3cr3t")
	}
}

// TestEndpointsFailOver has an agent with three endpoints, of which the first
// does not resolve: it stays with the one that works, goes on to the next when
// that is lost, and comes back.
func TestEndpointsFailOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.unique("failover")
	one, two := w.proxy(""), w.proxy("")
	hub, second := w.replica(hubOptions{}, one), w.replica(hubOptions{}, two)
	agent := w.agent(house.AgentConfig{Cluster: c, Join: w.token(hub, c, "nobody.fairlead.test:443", one.Address(), two.Address())})
	w.availability(c, metav1.ConditionTrue)
	w.reaches(hub, "fairlead_hub_sessions", atLeast(1))
	w.logged(agent.Process, "nobody.fairlead.test:443")

	hub.Kill()
	w.reaches(second, "fairlead_hub_sessions", atLeast(1))
	accepted := two.Accepted()
	two.Reset()
	w.until("the agent to come back to the endpoint that works", func(context.Context) (bool, error) { return two.Accepted() > accepted, nil })
	w.reaches(second, "fairlead_hub_sessions", atLeast(1))

	require.NoError(t, hub.Launch())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, hub.Ready(ctx))
	second.Kill()
	w.reaches(hub, "fairlead_hub_sessions", atLeast(1))
	w.put(c, nil, c+"-w")
	w.equal(c)
}

// TestLoadBalancerBeforeTwoHubs has a load balancer that passes TLS through to
// two replicas: one address, one name.
func TestLoadBalancerBeforeTwoHubs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	balancer := w.proxy("")
	first := w.replica(hubOptions{}, balancer)
	second := w.replica(hubOptions{}, balancer)
	a, b := w.unique("lb"), w.unique("lb")
	balancer.Retarget(first.AgentAddress)
	w.join(first, a)
	balancer.Retarget(second.AgentAddress)
	w.join(second, b)
	w.reaches(first, "fairlead_hub_sessions", atLeast(1))
	w.reaches(second, "fairlead_hub_sessions", atLeast(1))
	first.Kill() // the balancer sends new connections to the other one
	w.reaches(second, "fairlead_hub_sessions", atLeast(2))
	w.put(a, nil, a+"-w")
	w.put(b, nil, b+"-w")
	w.equal(a, b)
}

// TestT64_fake_hub has, at the endpoint of a join string, somebody with another
// CA, who decrypts whatever comes.
func TestT64_fake_hub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.replica(hubOptions{}, w.proxy(""))
	ca, err := pki.NewCA("fake root", time.Now(), time.Hour)
	require.NoError(t, err)
	cert, err := ca.IssueServing([]string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	heard := make(chan []byte, 100) // what came, decrypted
	done := make(chan struct{})
	config := pki.NewServer(pki.ServerState{Certificate: cert}).TLSConfig()
	go func() {
		defer close(done)
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(raw, config)
			content, _ := io.ReadAll(conn)
			heard <- content
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })

	c := w.unique("t64")
	agent := w.agent(house.AgentConfig{Cluster: c, Join: w.token(hub, c, listener.Addr().String())})
	select {
	case <-agent.Done():
	case <-time.After(patience):
		require.Fail(t, "the agent went on")
	}
	raw, err := os.ReadFile(agent.Log)
	require.NoError(t, err)
	require.Contains(t, string(raw), reason.HubCAMismatch)
	require.Contains(t, string(raw), "the hub's root certificate is not the pinned one")
	require.Contains(t, string(raw), "fake root", "and who is there instead")
	require.NotEmpty(t, heard, "it was there")
	for len(heard) > 0 {
		require.Empty(t, <-heard, "not a byte is said to it")
	}
}

// TestT60_copied_Secret copies an agent's Secret to a second cluster and starts
// an agent there.
func TestT60_copied_Secret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.unique("t60")
	hub := w.replica(hubOptions{}, w.proxy(""))
	other := w.plane // any other cluster: the hub's own
	inside := func(kube kubernetes.Interface) {
		_, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "agent-" + c}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	inside(w.spoke.kube)
	inside(w.kube)
	flags := []string{"--store=secrets", "--namespace=agent-" + c}
	first := w.agent(house.AgentConfig{Cluster: c, Join: w.token(hub, c, hub.AgentAddress), Flags: flags})
	w.availability(c, metav1.ConditionTrue)
	w.put(c, nil, c+"-w")
	w.equal(c)
	epoch := w.epoch(c)

	secret, err := w.spoke.kube.CoreV1().Secrets("agent-"+c).Get(t.Context(), "hub-kubeconfig-secret", metav1.GetOptions{})
	require.NoError(t, err)
	_, err = w.kube.CoreV1().Secrets("agent-"+c).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret.Name}, Data: secret.Data}, metav1.CreateOptions{})
	require.NoError(t, err)
	clone := w.cloned(house.AgentConfig{Cluster: c, Name: c + "-clone", Flags: flags}, other.Kubeconfig())
	w.logged(clone.Process, reason.DuplicateCluster)
	took := between(t, clone.Log, "the store is read", reason.DuplicateCluster)
	t.Logf("it was refused %s after it had begun to dial", took)
	require.Less(t, took, house.Scaled(30*time.Second, time.Second))

	ids := map[string]kubernetes.Interface{"spoke": w.spoke.kube, "clone": w.kube}
	w.until("a condition that names both", func(ctx context.Context) (bool, error) {
		cluster, err := w.clusters.ClusterV1().ManagedClusters().Get(ctx, c, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		found := meta.FindStatusCondition(cluster.Status.Conditions, "DuplicateAgent")
		if found == nil || found.Status != metav1.ConditionTrue {
			return false, fmt.Errorf("it is %+v", found)
		}
		for who, kube := range ids {
			system, err := kube.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
			if err != nil || !strings.Contains(found.Message, string(system.UID)) {
				return false, fmt.Errorf("it does not name the %s, whose kube-system is %s: %q (%w)", who, system.UID, found.Message, err)
			}
		}
		return true, nil
	})
	require.True(t, first.Alive())
	require.Equal(t, epoch, w.epoch(c), "the first one's session goes on")
	w.put(c, nil, c+"-w")
	w.equal(c)
}

// cloned starts an agent on another cluster.
func (w *world) cloned(config house.AgentConfig, kubeconfig string) *house.Agent {
	w.t.Helper()
	built, err := binaries()
	require.NoError(w.t, err)
	config.Binaries, config.Dir, config.Kubeconfig = built, w.dir, kubeconfig
	agent, err := house.StartAgent(config)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { w.stopped(agent.Process) })
	return agent
}

// between is the time from a line of a log to a later one.
func between(t *testing.T, file, from, to string) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	var began time.Time
	for line := range bytes.Lines(raw) {
		var entry struct {
			Time time.Time `json:"time"`
		}
		switch {
		case json.Unmarshal(line, &entry) != nil:
		case began.IsZero() && bytes.Contains(line, []byte(from)):
			began = entry.Time
		case !began.IsZero() && bytes.Contains(line, []byte(to)):
			return entry.Time.Sub(began)
		}
	}
	require.Fail(t, "the log has not both", "%s has not %q and then %q", file, from, to)
	return 0
}
