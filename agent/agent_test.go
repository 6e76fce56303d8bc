// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "spoke", NoAudit: true}) }

// running is one agent process, in this one.
type running struct {
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	a, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(func() { r.cancel() })
	return r
}

// stop ends the agent, quickly.
func (r *running) stop(t *testing.T) {
	t.Helper()
	began := time.Now()
	r.cancel()
	require.NoError(t, <-r.done)
	require.Less(t, time.Since(began), 5*time.Second)
}

// scene is a spoke's namespace and an agent's configuration.
type scene struct {
	kube      kubernetes.Interface
	namespace string
	cfg       Config
}

func newScene(t *testing.T, h *fakeHub) *scene {
	t.Helper()
	plane := env.Shared(t)
	kube, err := kubernetes.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	made, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "agent-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	s := &scene{kube: kube, namespace: made.Name, cfg: Default()}
	s.cfg.REST, s.cfg.Namespace, s.cfg.HTTPListen = plane.RESTConfig(), made.Name, ""
	s.cfg.AgentID = made.Name // its inventories are no other test's
	s.cfg.Log = slog.New(slog.DiscardHandler)
	if os.Getenv("FAIRLEAD_TEST_LOG") != "" {
		s.cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if h != nil {
		s.cfg.Join = h.join("spoke-" + made.Name)
	}
	return s
}

// work is a ManifestWork with ConfigMaps of that data.
func (s *scene) work(name, uid string, generation int64, data string, configMaps ...string) string {
	manifests := make([]string, 0, len(configMaps))
	for _, cm := range configMaps {
		manifests = append(manifests, fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":%q},"data":{"k":%q}}`, cm, s.namespace, data))
	}
	return fmt.Sprintf(`{"apiVersion":"work.open-cluster-management.io/v1","kind":"ManifestWork","metadata":{"name":%q,"namespace":"c1","uid":%q,"generation":%d},"spec":{"workload":{"manifests":[%s]}}}`,
		name, uid, generation, strings.Join(manifests, ","))
}

func (s *scene) until(t *testing.T, what string, is func(ctx context.Context) bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) { return is(ctx), nil })
	require.NoError(t, err, what)
}

func (s *scene) untilData(t *testing.T, name, want string) {
	t.Helper()
	s.until(t, "ConfigMap "+name+" has "+want, func(ctx context.Context) bool {
		cm, err := s.kube.CoreV1().ConfigMaps(s.namespace).Get(ctx, name, metav1.GetOptions{})
		return err == nil && cm.Data["k"] == want
	})
}

func (s *scene) untilGone(t *testing.T, name string) {
	t.Helper()
	s.until(t, "ConfigMap "+name+" is gone", func(ctx context.Context) bool {
		_, err := s.kube.CoreV1().ConfigMaps(s.namespace).Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

func (s *scene) exists(t *testing.T, name string) {
	t.Helper()
	_, err := s.kube.CoreV1().ConfigMaps(s.namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
}

func (s *scene) delete(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, s.kube.CoreV1().ConfigMaps(s.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
}

func applied(item *agentv1.ObjectStatus) bool {
	return strings.Contains(string(item.GetStatusJson()), `"type":"Applied"`)
}

func TestTheWholeWay(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(t *testing.T, cfg *Config){
		StoreSecrets: func(_ *testing.T, cfg *Config) { cfg.Store = StoreSecrets },
		StoreFiles:   func(t *testing.T, cfg *Config) { t.Helper(); cfg.DataDir = t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFakeHub(t)
			s := newScene(t, h)
			edit(t, &s.cfg)
			wholeWay(t, h, s)
		})
	}
}

func wholeWay(t *testing.T, h *fakeHub, s *scene) {
	t.Helper()
	w := s.namespace // names of works name inventories, which are cluster-wide
	first := start(t, s.cfg)
	p := h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	require.NotEmpty(t, p.hello.GetClusterFingerprint())
	p.delta(upsert(w, "u1", 1, s.work(w, "u1", 1, "one", "cm-1", "cm-2")))
	require.Equal(t, agentv1.AckCode_ACK_CODE_STORED, p.ack(w).GetCode())
	s.untilData(t, "cm-1", "one")
	s.untilData(t, "cm-2", "one")
	status := p.status("Applied", applied)
	require.EqualValues(t, 1, status.GetObservedGeneration())
	report := p.reported("a report with a version", func(r *agentv1.ClusterReport) bool { return r.GetKubernetesVersion() != "" })
	require.True(t, report.GetApiserverHealthy())
	require.NotEmpty(t, report.GetClaims()["id.k8s.io"])

	h.stop() // the hub is gone
	s.delete(t, "cm-1")
	s.untilData(t, "cm-1", "one")
	first.stop(t)

	s.delete(t, "cm-2") // nobody runs
	second := start(t, s.cfg)
	s.untilData(t, "cm-2", "one")
	s.delete(t, "cm-1")
	s.untilData(t, "cm-1", "one")

	h.start() // the hub is back
	p = h.accept(agentv1.SyncMode_SYNC_MODE_IN_SYNC, true)
	require.EqualValues(t, 1, p.hello.GetResume().GetDesiredCount())
	p.status("every status again, as asked", applied)
	p.delta(upsert(w, "u1", 2, s.work(w, "u1", 2, "two", "cm-2")))
	s.untilData(t, "cm-2", "two")
	s.untilGone(t, "cm-1")

	p.delta(remove(w, "u1", agentv1.DeleteReason_DELETE_REASON_REQUESTED))
	p.status("finalized", func(item *agentv1.ObjectStatus) bool { return item.GetFinalized() && item.GetUid() == "u1" })
	s.untilGone(t, "cm-2")
	p.delta(remove("never-held-"+w, "u9", agentv1.DeleteReason_DELETE_REASON_REQUESTED))
	p.status("finalized too", func(item *agentv1.ObjectStatus) bool { return item.GetFinalized() && item.GetUid() == "u9" })
	p.untilHeldObjects(0) // what was finalized and PERSISTED is forgotten
	second.stop(t)

	third := start(t, s.cfg)
	p = h.accept(agentv1.SyncMode_SYNC_MODE_IN_SYNC, false)
	require.Zero(t, p.hello.GetResume().GetDesiredCount(), "durably")
	third.stop(t)
}

func TestOrphansAndPrunesWaitForAPerson(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t)
	s := newScene(t, h)
	s.cfg.DataDir = t.TempDir()
	a, b := s.namespace+"-a", s.namespace+"-b"
	agent := start(t, s.cfg)
	p := h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	p.delta(upsert(a, "ua", 5, s.work(a, "ua", 5, "x", "a-1", "a-2")), upsert(b, "ub", 5, s.work(b, "ub", 5, "x", "b-1")))
	for _, cm := range []string{"a-1", "a-2", "b-1"} {
		s.untilData(t, cm, "x")
	}

	// A generation below the stored one: the content is applied, the prune waits.
	p.delta(upsert(a, "ua", 4, s.work(a, "ua", 4, "old", "a-1")))
	s.untilData(t, "a-1", "old")
	batch := p.reported("a held prune", func(r *agentv1.ClusterReport) bool { return len(r.GetHeld()) == 1 }).GetHeld()[0]
	require.Equal(t, agentv1.HeldReason_HELD_REASON_GENERATION, batch.GetReason())
	p.status("a status of the older generation", func(item *agentv1.ObjectStatus) bool {
		return item.GetKey().GetName() == a && item.GetObservedGeneration() == 4
	})
	s.exists(t, "a-2")
	release := func(id string) {
		p.send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Directive{Directive: &agentv1.Directive{
			Directive: &agentv1.Directive_ReleaseHold{ReleaseHold: &agentv1.ReleaseHold{BatchId: id}},
		}}})
	}
	release(batch.GetBatchId())
	s.untilGone(t, "a-2")

	// Both works orphaned: more than 20 % of what is held. Restarts change nothing.
	p.delta(remove(a, "ua", agentv1.DeleteReason_DELETE_REASON_ORPHAN), remove(b, "ub", agentv1.DeleteReason_DELETE_REASON_ORPHAN))
	p.next("HELD", func(m *agentv1.SessionRequest) bool { // for the second of them; the first one is held with it
		return slices.ContainsFunc(m.GetAck().GetObjects(), func(o *agentv1.ObjectAck) bool { return o.GetCode() == agentv1.AckCode_ACK_CODE_HELD })
	})
	agent.stop(t)
	agent = start(t, s.cfg)
	p = h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	held := p.reported("a held delete", func(r *agentv1.ClusterReport) bool { return len(r.GetHeld()) > 0 })
	s.exists(t, "b-1")
	for _, batch := range held.GetHeld() {
		require.Equal(t, agentv1.HeldReason_HELD_REASON_COUNT, batch.GetReason())
		release(batch.GetBatchId())
	}
	s.untilGone(t, "a-1")
	s.untilGone(t, "b-1")
	p.untilHeldObjects(0)
	agent.stop(t)
}

// A hub that lies, over real TLS, to a real agent on a real spoke: what it may
// not delete stays there, whatever it says of the size of its batches.
func TestT83_hostile_hub_removes_nothing(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t)
	s := newScene(t, h)
	s.cfg.DataDir = t.TempDir()
	agent := start(t, s.cfg)
	p := h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	var works, maps []string
	var all, lies []*agentv1.ObjectChange
	for i := range 12 {
		name, object := fmt.Sprintf("%s-%d", s.namespace, i), fmt.Sprintf("cm-%d", i)
		works, maps = append(works, name), append(maps, object)
		all = append(all, upsert(name, "u-"+name, 1, s.work(name, "u-"+name, 1, "x", object)))
		lie := remove(name, "u-"+name, agentv1.DeleteReason_DELETE_REASON_ORPHAN)
		lie.GetDelete().BatchSize = uint32(i % 2) // 0 or 1, of 12
		lies = append(lies, lie)
	}
	p.delta(all...)
	for _, object := range maps {
		s.untilData(t, object, "x")
	}

	unknown := upsert("x", "u", 1, "{}")
	unknown.Key.Kind = 77
	p.delta(unknown)
	require.Equal(t, reason.Unsupported, p.ack("x").GetError().GetReason(), "an ObjectKind that nobody knows")
	p.delta(remove(works[0], "other", agentv1.DeleteReason_DELETE_REASON_REQUESTED))
	require.Equal(t, reason.UIDMismatch, p.ack(works[0]).GetError().GetReason(), "a delete of another UID")
	p.delta(lies...)
	held := p.reported("held deletes", func(r *agentv1.ClusterReport) bool {
		n := 0
		for _, batch := range r.GetHeld() {
			n += len(batch.GetEntries())
		}
		return n == len(works)
	})
	for _, batch := range held.GetHeld() {
		require.Equal(t, agentv1.HeldReason_HELD_REASON_COUNT, batch.GetReason(), "the agent counts by itself")
	}

	p.mu.Lock()
	p.seq += 5 // a gap
	p.mu.Unlock()
	p.delta(remove(works[1], "u-"+works[1], agentv1.DeleteReason_DELETE_REASON_REQUESTED))
	select { // it ends, and dials again
	case p = <-h.sessions:
	case <-time.After(time.Minute):
		require.FailNow(t, "the session went on after a gap")
	}
	p.delta(remove(works[2], "u-"+works[2], agentv1.DeleteReason_DELETE_REASON_REQUESTED)) // before Welcome
	p = h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	p.untilHeldObjects(len(works))
	for _, object := range maps {
		s.exists(t, object)
	}
	agent.stop(t)
}

// TestJoinFile has nothing in the file, then something that cannot
// be read, then a join string, then another one.
func TestJoinFile(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t)
	s := newScene(t, h)
	s.cfg.DataDir, s.cfg.Join, s.cfg.JoinFile = t.TempDir(), "", filepath.Join(t.TempDir(), "join")
	var log lockedBuffer
	s.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	logged := func(text string) {
		s.until(t, text, func(context.Context) bool { return strings.Contains(log.String(), text) })
	}
	put := func(text string) { require.NoError(t, os.WriteFile(s.cfg.JoinFile, []byte(text), 0o600)) }
	agent := start(t, s.cfg)
	t.Run("RA-20_wrong_at_first", func(t *testing.T) {
		logged("no join string was given")
		put(h.join("spoke-1")[:40])
		logged("INVALID_JOIN_STRING: ")
		put(h.join("spoke-1") + "\n")
		h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
		require.Equal(t, []string{"id.secret"}, h.enrolled())
	})
	t.Run("RA-18_another_one", func(t *testing.T) {
		require.NoError(t, os.Remove(s.cfg.JoinFile)) // it has done its work
		put(h.joinWith("spoke-1", "id2.secret"))
		h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
		require.Equal(t, []string{"id.secret", "id2.secret"}, h.enrolled())
	})
	t.Run("RA-17_enrolls_again_with_another_one_alone", func(t *testing.T) {
		agent.stop(t)
		agent = start(t, s.cfg)
		h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
		require.Len(t, h.enrolled(), 2, "the certificate that it has is used")
	})
	agent.stop(t)
}

// lockedBuffer is written and read at the same time.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is what was written.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestT20_undecodable_works_are_rejected(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t)
	s := newScene(t, h)
	s.cfg.DataDir = t.TempDir()
	agent := start(t, s.cfg)
	p := h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	bad := strings.Replace(s.work("bad", "u", 1, "x", "m-1", "m-2"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m-2"`, `{"metadata":{"name":"m-2"`, 1)
	for name, tc := range map[string]struct{ content, field string }{
		"no-json":     {`{"spec":`, ""},
		"no-object":   {`"text"`, ""},
		"bad":         {bad, "spec.workload.manifests[1]"},
		"wrong-name":  {s.work("other", "u", 1, "x"), "metadata"},
		"wrong-uid":   {s.work("wrong-uid", "other", 1, "x"), "metadata"},
		"odd-content": {`{"metadata":{"name":"odd-content","uid":"u"},"spec":{"workload":{"manifests":"none"}}}`, ""},
	} {
		p.delta(upsert(name, "u", 1, tc.content))
		ack := p.ack(name)
		require.Equal(t, agentv1.AckCode_ACK_CODE_REJECTED, ack.GetCode(), name)
		require.Equal(t, reason.Undecodable, ack.GetError().GetReason(), name)
		if tc.field != "" {
			require.Equal(t, []string{tc.field}, ack.GetError().GetFieldPaths(), name)
		}
	}
	good := s.namespace + "-good"
	p.delta(upsert(good, "u", 1, s.work(good, "u", 1, "x", "fine")))
	s.untilData(t, "fine", "x")
	agent.stop(t)
}

func TestFreshAgentThatIsRefusedEnds(t *testing.T) {
	t.Parallel()
	h, other := newFakeHub(t), newFakeHub(t)
	s := newScene(t, nil)
	s.cfg.DataDir = t.TempDir()
	s.cfg.Join = h.join("spoke-x")
	h.stop()
	h.serving = other.serving // somebody else answers at that address
	h.start()
	agent := start(t, s.cfg)
	require.ErrorContains(t, <-agent.done, reason.HubCAMismatch)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	h := newFakeHub(t)
	s := newScene(t, h)
	s.cfg.DataDir = t.TempDir()
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.cfg.HTTPListen = free.Addr().String()
	require.NoError(t, free.Close())
	agent := start(t, s.cfg)
	get := func(ctx context.Context, path string) (int, string) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.cfg.HTTPListen+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	s.until(t, "alive", func(ctx context.Context) bool { code, _ := get(ctx, "/livez"); return code == http.StatusOK })
	h.accept(agentv1.SyncMode_SYNC_MODE_FULL, false)
	s.until(t, "ready", func(ctx context.Context) bool { code, _ := get(ctx, "/readyz"); return code == http.StatusOK })
	_, metrics := get(t.Context(), "/metrics")
	for _, name := range []string{"fairlead_agent_connected 1", "fairlead_agent_held_deletes 0", "fairlead_agent_certificate_expiry_seconds 3", "fairlead_agent_build_info"} {
		require.Contains(t, metrics, name)
	}
	code, _ := os.ReadFile(filepath.Join(s.cfg.DataDir, "pairing-code"))
	require.Len(t, strings.TrimSpace(string(code)), 14)
	h.stop()
	s.until(t, "not ready without a hub", func(ctx context.Context) bool {
		code, body := get(ctx, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "session")
	})
	agent.stop(t)
	h.start()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reason string
		edit   func(*Config)
		want   string
	}{
		"default":        {"nothing to complain about", func(*Config) {}, ""},
		"two identities": {"one way to the hub", func(c *Config) { c.Join, c.ClientCert = "x", "y" }, "exclude each other"},
		"half an own":    {"an own certificate needs the rest", func(c *Config) { c.ClientCert = "y" }, "--hub, --hub-ca, --client-key, --cluster-name"},
		"hub alone":      {"--hub alone does not say whom to trust", func(c *Config) { c.Endpoints = []string{"h:1"} }, "--join instead"},
		"bad endpoint": {"host:port", func(c *Config) {
			c.Endpoints, c.HubCA, c.ClientCert, c.ClientKey, c.ClusterName = []string{"h"}, "a", "b", "c", "d"
		}, "not host:port"},
		"bad name":        {"an RFC 1123 label", func(c *Config) { c.ClusterName = "Not_A_Label" }, `INVALID_NAME: --cluster-name: cluster name "Not_A_Label" is not an RFC 1123 label`},
		"bad agent id":    {"an RFC 1123 subdomain", func(c *Config) { c.AgentID = "/" }, "--agent-id"},
		"bad store":       {"one of three", func(c *Config) { c.Store = "etcd" }, "--store"},
		"files nowhere":   {"a folder is needed", func(c *Config) { c.Store = StoreFiles }, "--data-dir"},
		"bad controllers": {"unknown ones are named", func(c *Config) { c.Controllers = "*,-wirk" }, `no "wirk"; known: cluster, work`},
		"delete rate":     {"a rate is not negative", func(c *Config) { c.MaxDeleteRate = -1 }, "--max-delete-rate"},
		"no interval":     {"an interval is positive", func(c *Config) { c.StatusSyncInterval = 0 }, "--status-sync-interval"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Default()
			tc.edit(&cfg)
			err := cfg.Validate()
			if tc.want == "" {
				require.NoError(t, err, tc.reason)
				return
			}
			require.ErrorContains(t, err, tc.want, tc.reason)
		})
	}
	cfg := Default()
	cfg.Controllers = "*,-work"
	on, err := cfg.controllers()
	require.NoError(t, err)
	require.Equal(t, map[string]bool{ControllerCluster: true, ControllerWork: false}, on)
	require.Equal(t, wire.KindWork, workKey("x").Kind)
}
