// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/agent/enroll"
	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/env"
)

// renew gets a certificate for a new key and uses it for what follows.
func (a *rawAgent) renew() {
	a.t.Helper()
	key, err := pki.NewKey()
	require.NoError(a.t, err)
	csr, err := pki.NewCSR(key, identity.Subject(a.cluster, "agent"))
	require.NoError(a.t, err)
	renewed, err := a.api.RenewCertificate(a.t.Context(), &agentv1.RenewCertificateRequest{CsrDer: csr})
	require.NoError(a.t, err)
	a.key = key
	a.use(renewed.GetCertificate().GetChainDer())
}

// thief has what an agent has, and connections of its own.
func (a *rawAgent) thief() *rawAgent {
	twin := *a
	twin.tls = pki.NewClient(a.trust)
	twin.tls.SetCertificate(a.tls.Certificate())
	twin.dial()
	return &twin
}

// T66: a stolen certificate is renewed from elsewhere. When the agent shows its
// own, older one, the alarm is there within a second, neither end has a session,
// and a person decides.
func TestT66_a_cloned_certificate(t *testing.T) {
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	cluster := plane.Unique("cloned")
	agent := newAgent(t, hub, cluster)
	agent.join(hub.token(cluster, true), false)
	own := agent.session(&agentv1.Hello{})
	thief := agent.thief()
	thief.renew()
	stolen := thief.session(&agentv1.Hello{InstanceId: "thief"})
	require.Contains(t, []string{reason.Superseded, reason.SerialMismatch}, rpcerr.ReasonOf(own.end()))

	agent.dial()
	shown := time.Now()
	var err error
	until(t, "the older serial to be refused", func() error {
		_, err = agent.trySession(&agentv1.Hello{})
		if why := rpcerr.ReasonOf(err); why != reason.CertificateClone {
			return fmt.Errorf("%s: %w", why, err)
		}
		return nil
	})
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	require.Equal(t, reason.CertificateClone, rpcerr.ReasonOf(stolen.end()), "the session of the newer one ends too")
	require.Less(t, time.Since(shown), aSecond())
	managed := &clusterv1.ManagedCluster{}
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Name: cluster}, managed))
	require.True(t, meta.IsStatusConditionTrue(managed.Status.Conditions, "CertificateCloned"))
	_, err = thief.trySession(&agentv1.Hello{})
	require.Equal(t, reason.CertificateClone, rpcerr.ReasonOf(err))

	admins := adminv1.NewEnrollmentAdminServiceClient(adminConn(t, hub, agent))
	person := personOf(t, plane, hub, "admin-"+cluster, rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}})
	serial := pki.Serial(thief.tls.Certificate().Leaf)
	answer, err := admins.AcceptEnrollment(person, &adminv1.AcceptEnrollmentRequest{ClusterName: cluster, CertificateSerial: serial})
	require.NoError(t, err)
	require.Equal(t, serial, answer.GetEnrollment().GetCertificateSerial())
	until(t, "the one that the person chose to be served", func() error {
		_, err := thief.trySession(&agentv1.Hello{})
		return err
	})
	_, err = agent.trySession(&agentv1.Hello{})
	require.Equal(t, reason.Revoked, rpcerr.ReasonOf(err))
}

// cutter is a network that withholds all that the hub says, and then hangs up.
type cutter struct {
	address string
	source  net.IP // to dial from; nil leaves it to the system
	mu      sync.Mutex
	conn    *mutedConn
	mute    chan struct{} // closed to cut; nil lets everything through
}

func (c *cutter) dial(ctx context.Context, _ string) (net.Conn, error) {
	dialer := &net.Dialer{}
	if c.source != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: c.source}
	}
	conn, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = &mutedConn{Conn: conn, network: c}
	return c.conn, nil
}

// arm withholds replies from now on; cut ends that, and the connection.
func (c *cutter) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = make(chan struct{})
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.mute)
	c.mute, c.conn.dead = nil, true
	_ = c.conn.Close()
}

type mutedConn struct {
	net.Conn
	network *cutter
	dead    bool // guarded by the network's lock
}

// Read delivers nothing of what arrives while the network is armed, also when it
// is looked at later only.
func (m *mutedConn) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.network.mu.Lock()
	mute, dead := m.network.mute, m.dead
	m.network.mu.Unlock()
	switch {
	case dead:
		return 0, net.ErrClosed
	case mute == nil:
		return n, err
	}
	<-mute
	return 0, net.ErrClosed
}

// certificateCuts is how often each of the two calls is cut off in T43.
// FAIRLEAD_T43=250 makes the whole of it.
func certificateCuts(t *testing.T) int {
	t.Helper()
	text := os.Getenv("FAIRLEAD_T43")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// loopback is one of this machine's own addresses: a source may enroll five times
// a minute, and what dials from another is another source.
func loopback(i int) net.IP {
	const each = 3
	return net.IPv4(127, 0, byte(1+i/each/250), byte(1+i/each%250))
}

// T43: the connection goes after the hub has done the work, and before the
// agent has the reply. The agent's own code gets there with the token it has.
func TestT43_replies_that_are_cut_off(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	rounds := certificateCuts(t)
	for i := range rounds {
		cluster := plane.Unique("cut")
		network := &cutter{address: hub.addresses.Agent, source: loopback(i)}
		creds := hub.enrollCut(t, network, cluster, hub.joinString(cluster))
		e := hub.enrollmentOf(t, cluster)
		conn := creds.connect(t, network)
		creds.inUse(t, conn, i)
		network.arm()
		lost := make(chan error, 1)
		go func() { lost <- creds.Renew(t.Context(), conn) }()
		until(t, "the renewal to be signed", func() error {
			if next := hub.enrollmentOf(t, cluster).Status.Next; next == nil || next.Serial == "" {
				return errors.New("no serial")
			}
			return nil
		})
		network.cut()
		require.Error(t, <-lost)
		conn = creds.connect(t, network)
		require.NoError(t, served(t, i, func() error { return creds.Renew(t.Context(), conn) }), "round %d", i)
		after := hub.enrollmentOf(t, cluster)
		require.Equal(t, e.Name, after.Name)
		require.Equal(t, after.Status.Next.Serial, creds.Serial(), "of two calls one certificate")
		creds.inUse(t, creds.connect(t, network), i)
		require.Equal(t, creds.Serial(), hub.enrollmentOf(t, cluster).Status.Current.Serial)
	}
	t.Logf("%d of %d calls were cut off, and all got through", 2*rounds, 2*rounds)
}

// served repeats a call, as agents do, as long as the hub says that it cannot
// serve anybody just now, as when a busy machine keeps its apiserver from answering.
func served(t *testing.T, round int, call func() error) (err error) {
	t.Helper()
	until(t, "the hub to serve", func() error {
		err = call()
		if status.Code(err) != codes.Unavailable {
			return nil
		}
		t.Logf("round %d: %v", round, err)
		return err
	})
	return err
}

// inUse makes a call that the hub refuses for its content alone: the connection is
// open, and its certificate taken.
func (k *kept) inUse(t *testing.T, conn *grpc.ClientConn, round int) {
	t.Helper()
	err := served(t, round, func() error {
		_, err := agentv1.NewAgentServiceClient(conn).RenewCertificate(t.Context(), &agentv1.RenewCertificateRequest{CsrDer: []byte("x")})
		return err
	})
	require.Equal(t, reason.InvalidCSR, rpcerr.ReasonOf(err), "round %d: %v", round, err)
}

// T44: the agent is killed after it stored its next certificate, and before it
// used it. What it finds in its vault is good.
func TestT44_killed_between_store_and_use(t *testing.T) {
	t.Parallel()
	plane := env.Shared(t)
	hub := startHub(t, plane.RESTConfig(), nil).ready()
	cluster := plane.Unique("killed")
	network := &cutter{address: hub.addresses.Agent}
	creds := hub.enrollCut(t, network, cluster, hub.joinString(cluster))
	conn := creds.connect(t, network)
	require.NoError(t, creds.Renew(t.Context(), conn))
	next := hub.enrollmentOf(t, cluster).Status.Next
	require.Equal(t, next.Serial, creds.Serial())

	again, err := enroll.New(enroll.Config{Vault: creds.vault, Log: slog.New(slog.DiscardHandler), Dial: network.dial})
	require.NoError(t, err)
	restarted, err := again.Credentials(t.Context())
	require.NoError(t, err)
	require.Equal(t, next.Serial, restarted.Serial())
	_, err = agentv1.NewAgentServiceClient((&kept{restarted, creds.vault}).connect(t, network)).RenewCertificate(t.Context(), &agentv1.RenewCertificateRequest{CsrDer: []byte("x")})
	require.Equal(t, reason.InvalidCSR, rpcerr.ReasonOf(err))
	until(t, "the first use to be noted", func() error {
		if current := hub.enrollmentOf(t, cluster).Status.Current; current.Serial != next.Serial {
			return errors.New("not yet")
		}
		return nil
	})
}

// T44: renewals at the same instant, each for a key of its own: the hub counts one
// of them as next, beside the current one, and the agent goes on with it.
func TestT44_renewals_at_the_same_instant(t *testing.T) {
	hub := startHub(t, env.Shared(t).RESTConfig(), func(c *server.Config) { c.LeaderElect = false }).ready()
	agent := newAgent(t, hub, env.Shared(t).Unique("parallel"))
	agent.join(hub.token(agent.cluster, true), false)
	agent.session(&agentv1.Hello{}).cancel()
	current := hub.enrollmentOf(t, agent.cluster).Status.Current
	type answer struct {
		key   crypto.Signer
		chain [][]byte
	}
	answers := make(chan answer, 4)
	var group errgroup.Group
	for range cap(answers) {
		group.Go(func() error {
			key, err := pki.NewKey()
			if err != nil {
				return err
			}
			csr, err := pki.NewCSR(key, identity.Subject(agent.cluster, "agent"))
			if err != nil {
				return err
			}
			renewed, err := agent.api.RenewCertificate(t.Context(), &agentv1.RenewCertificateRequest{CsrDer: csr})
			if err == nil {
				answers <- answer{key, renewed.GetCertificate().GetChainDer()}
			}
			if err != nil && rpcerr.ReasonOf(err) != reason.Conflict {
				return err // of those at once, all others are told that another came after them
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	close(answers)
	after := hub.enrollmentOf(t, agent.cluster).Status
	require.Equal(t, current.Serial, after.Current.Serial)
	require.NotNil(t, after.Next)
	used := false
	for a := range answers {
		leaf, err := x509.ParseCertificate(a.chain[0])
		require.NoError(t, err)
		if pki.Serial(leaf) == after.Next.Serial {
			agent.key, used = a.key, true
			agent.use(a.chain)
			agent.session(&agentv1.Hello{})
		}
	}
	require.True(t, used, "who asked for what counts has got it")
	until(t, "the first use to be noted", func() error {
		if got := hub.enrollmentOf(t, agent.cluster).Status; got.Current.Serial != after.Next.Serial {
			return errors.New("not yet")
		}
		return nil
	})
}

// kept is credentials together with where they are kept.
type kept struct {
	*enroll.Credentials
	vault enroll.Vault
}

func (k *kept) connect(t *testing.T, network *cutter) *grpc.ClientConn {
	t.Helper()
	config, err := k.TLS("127.0.0.1:1")
	require.NoError(t, err)
	conn, err := grpc.NewClient("passthrough:///hub", grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithContextDialer(network.dial))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// enrollCut enrolls with the agent's own code; the reply to its first Enroll is
// cut off once the hub has written everything.
func (r *running) enrollCut(t *testing.T, network *cutter, cluster, join string) *kept {
	t.Helper()
	vault, err := enroll.NewFileVault(t.TempDir())
	require.NoError(t, err)
	dialled := 0
	enroller, err := enroll.New(enroll.Config{
		Vault: vault, Log: slog.New(slog.DiscardHandler), Join: join, ClusterName: cluster, Fingerprint: "fp-" + cluster, AgentID: "raw", Version: "test",
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := network.dial(ctx, address)
			if dialled++; dialled > 1 || err != nil {
				return conn, err
			}
			return &cutAfterHandshake{Conn: conn, network: network}, nil
		},
	})
	require.NoError(t, err)
	done := make(chan error, 1)
	var creds *enroll.Credentials
	go func() {
		got, err := enroller.Credentials(t.Context())
		creds = got
		done <- err
	}()
	until(t, "the hub to have done all that Enroll does", func() error {
		return r.kube.Get(t.Context(), client.ObjectKey{Name: r.enrollmentOf(t, cluster).Name}, &certificatesv1.CertificateSigningRequest{})
	})
	network.cut()
	require.NoError(t, <-done)
	require.GreaterOrEqual(t, dialled, 2)
	return &kept{creds, vault}
}

// cutAfterHandshake arms the network with the request itself: it is the first
// long write after the one that begins the handshake.
type cutAfterHandshake struct {
	net.Conn
	network *cutter
	writes  int
	armed   bool
}

func (c *cutAfterHandshake) Write(b []byte) (int, error) {
	const request = 400
	if c.writes++; c.writes > 1 && len(b) > request && !c.armed {
		c.armed = true
		c.network.arm()
	}
	return c.Conn.Write(b)
}

func (r *running) joinString(cluster string) string {
	r.t.Helper()
	secret := &corev1.Secret{}
	require.NoError(r.t, r.kube.Get(r.t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: "fairlead-ca-hub-serving"}, secret))
	roots, err := pki.ParseCertificates(secret.Data["tls.crt"])
	require.NoError(r.t, err)
	join := pki.JoinString{Endpoints: []string{r.addresses.Agent}, CASHA256: fmt.Sprintf("%x", pki.Fingerprint(roots[0])), Token: r.token(cluster, true), Name: cluster}
	text, err := join.Encode()
	require.NoError(r.t, err)
	return text
}

// enrollmentOf is the one enrollment of a cluster; an empty one while there is none.
func (r *running) enrollmentOf(t *testing.T, cluster string) *v1alpha1.ClusterEnrollment {
	t.Helper()
	var list v1alpha1.ClusterEnrollmentList
	require.NoError(t, r.kube.List(t.Context(), &list, client.MatchingLabels{identity.ClusterNameLabel: cluster}))
	require.LessOrEqual(t, len(list.Items), 1)
	if len(list.Items) == 0 {
		return &v1alpha1.ClusterEnrollment{}
	}
	return &list.Items[0]
}
