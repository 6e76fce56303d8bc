// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/test/env"
)

// screen is what a person sees, read while it is written.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// person joins clusters.
type person struct {
	kube       kubernetes.Interface
	kubeconfig string
	dir        string
	out, err   *screen
	timeout    time.Duration
}

func newPerson(t *testing.T) *person {
	t.Helper()
	plane := env.Shared(t)
	kube, err := kubernetes.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	p := &person{kube: kube, kubeconfig: plane.Kubeconfig(), dir: t.TempDir(), out: &screen{}, err: &screen{}, timeout: time.Minute}
	t.Cleanup(func() { p.forget(t) })
	return p
}

// forget makes the spoke what it was.
func (p *person) forget(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, err := range []error{
		p.kube.CoreV1().Secrets(namespace).Delete(ctx, credentials, metav1.DeleteOptions{}),
		p.kube.CoreV1().ServiceAccounts(namespace).Delete(ctx, account, metav1.DeleteOptions{}),
		p.kube.AppsV1().Deployments(namespace).Delete(ctx, account, metav1.DeleteOptions{}),
	} {
		require.True(t, err == nil || apierrors.IsNotFound(err), "%v", err)
	}
}

func (p *person) join(ctx context.Context, args ...string) error {
	o := &cli.Options{In: strings.NewReader(""), Out: p.out, Err: p.err, Now: time.Now, Timeout: p.timeout}
	cmd := Command(o) //nolint:contextcheck // the context comes with ExecuteContext
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append([]string{"--spoke-kubeconfig", p.kubeconfig, "--data-dir", p.dir}, args...))
	return cmd.ExecuteContext(ctx)
}

func joinString(t *testing.T, name string) string {
	t.Helper()
	text, err := pki.JoinString{Endpoints: []string{"hub.example:8443"}, CASHA256: strings.Repeat("ab", 32), Token: "id.secret", Name: name}.Encode()
	require.NoError(t, err)
	return text
}

// self is the test binary as an agent that behaves so.
func self(t *testing.T, behaviour string) string {
	t.Helper()
	t.Setenv(agentVariable, behaviour)
	binary, err := os.Executable()
	require.NoError(t, err)
	return binary
}

// started is the agent that a join started.
func (p *person) started(t *testing.T) *process {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, "agent.json"))
	require.NoError(t, err)
	var r running
	require.NoError(t, json.Unmarshal(raw, &r))
	return &process{running: r}
}

// stop ends it.
func (p *person) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, syscall.Kill(p.started(t).running.PID, syscall.SIGKILL))
}

// answers waits until it answers; it has shown its pairing code then.
func (p *person) answers(t *testing.T) {
	t.Helper()
	started := p.started(t)
	require.Eventually(t, func() bool { return started.ask(t.Context(), "/livez") == nil }, time.Minute, 20*time.Millisecond)
	require.FileExists(t, filepath.Join(p.dir, "credentials.json"))
}

func (p *person) until(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.out.String()+p.err.String(), text) }, time.Minute, 20*time.Millisecond, text)
}

// TestJoin goes the whole way with an agent in the background, and then looks
// at what is on the spoke.
func TestJoin(t *testing.T) {
	p := newPerson(t)
	binary, text := self(t, "ok"), joinString(t, "eu-1")
	var group errgroup.Group
	group.Go(func() error { return p.join(t.Context(), text, "--agent", "process", "--agent-binary", binary) })
	p.until(t, "pairing code ABCD-EFGH-IJKL\n")
	defer p.stop(t)
	p.until(t, "Next: the hub's admin accepts this very key: fairlead accept eu-1 --pairing-code ABCD-EFGH-IJKL\n")
	p.until(t, "eu-1: waiting for the hub's admin to accept: enrolling is not possible yet: the hub sleeps\n")
	secret, err := p.kube.CoreV1().Secrets(namespace).Get(t.Context(), joinSecret, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, text, string(secret.Data[keyJoin]))
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "accepted"), nil, 0o600))
	require.NoError(t, group.Wait())
	require.Contains(t, p.out.String(), "cluster eu-1 joined hub hub-x\n")

	_, err = p.kube.CoreV1().Secrets(namespace).Get(t.Context(), joinSecret, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "the join string has done its work: %v", err)
	raw, err := os.ReadFile(filepath.Join(p.dir, "seen", "credentials.json"))
	require.NoError(t, err)
	var seen map[string]string
	require.NoError(t, json.Unmarshal(raw, &seen))
	require.Equal(t, text, seen["join"])
	require.NotContains(t, seen["args"], text, "arguments are for everybody to see")
	p.requireRights(t, "workloads")

	require.NoError(t, p.join(t.Context(), text, "--agent", "process", "--agent-binary", binary, "--role", "none"))
	require.Contains(t, p.err.String(), "The agent runs already")
	require.Contains(t, p.err.String(), "Taken away from works: ClusterRole open-cluster-management:fairlead:agent:workloads")
	p.requireRights(t, "none")
}

// requireRights asks, as the agent, what it may do on the spoke.
func (p *person) requireRights(t *testing.T, role string) {
	t.Helper()
	config, err := cli.LoadKubeconfig(filepath.Join(p.dir, "spoke.kubeconfig"), "")
	require.NoError(t, err)
	agent, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	may := func(verb, group, resource, name string) bool {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource, Name: name, Namespace: "default"},
		}}
		answer, err := agent.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		require.NoError(t, err)
		return answer.Status.Allowed
	}
	apps := role == "workloads"
	require.Eventually(t, func() bool { return may("patch", "apps", "deployments", "") == apps }, 10*time.Second, 50*time.Millisecond, role)
	require.Equal(t, apps, may("create", "", "secrets", ""), role)
	require.True(t, may("patch", "work.open-cluster-management.io", "appliedmanifestworks", ""))
	require.True(t, may("get", "", "namespaces", "kube-system"))
	require.False(t, may("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""))
	require.False(t, may("create", "apiextensions.k8s.io", "customresourcedefinitions", ""))
	require.False(t, may("impersonate", "", "users", ""))
}

func TestJoinWithoutAnAnswer(t *testing.T) {
	p := newPerson(t)
	args := []string{joinString(t, "eu-2"), "--agent", "process", "--agent-binary", self(t, "ok")}
	require.NoError(t, p.join(t.Context(), append(args, "--wait=false")...))
	defer p.stop(t)
	p.answers(t) // the wait is for a person, not for the agent's start
	p.timeout = 3 * time.Second
	err := p.join(t.Context(), args...)
	require.ErrorContains(t, err, "nobody has accepted cluster eu-2 yet")
	require.ErrorContains(t, err, "Hint: the agent goes on waiting; once the hub's admin says «fairlead accept eu-2 --pairing-code ABCD-EFGH-IJKL»")
	require.Equal(t, cli.ExitTimeout, cli.Report(p.err, err, false))
}

func TestJoinRefusedByTheHub(t *testing.T) {
	p := newPerson(t)
	err := p.join(t.Context(), joinString(t, "eu-3"), "--agent", "process", "--agent-binary", self(t, "refused"))
	require.ErrorContains(t, err, `the agent ended: hub at h:1: join token "t" was used by another key already [TOKEN_USED]`)
	require.ErrorContains(t, err, "\nHint: ")
	require.Equal(t, cli.ExitFailed, cli.Report(p.err, err, false))
	_, err = p.kube.CoreV1().Secrets(namespace).Get(t.Context(), joinSecret, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "a join string that is refused is no good to anybody: %v", err)
	require.Contains(t, p.err.String(), "Cluster eu-3 is not joined. Namespace open-cluster-management-agent stays there, with nothing running")
}

// TestLook has what a Pod says of an agent that does not run.
func TestLook(t *testing.T) {
	pod := func(status corev1.ContainerStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{status}}}
	}
	died := func(message string) corev1.ContainerStatus {
		return corev1.ContainerStatus{LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: message}}}
	}
	cases := map[string]struct {
		reason string
		status corev1.ContainerStatus
		want   string
	}{
		"refused": {"in the agent's last words", died("{\"level\":\"INFO\"}\nagent: hub: TOKEN_USED: used already\n"), "the agent ended: hub: TOKEN_USED: used already"},
		"killed":  {"it had no time for words", died(""), "the agent ended with code 1"},
		"waiting": {"what the kubelet says", corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"}}}, "ErrImagePull: no such image"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			ready, trouble := look(pod(tc.status))
			require.False(t, ready)
			require.Equal(t, tc.want, trouble, tc.reason)
		})
	}
}

func TestJoinPrintsHowToRunTheAgent(t *testing.T) {
	p := newPerson(t)
	text := joinString(t, "eu-4")
	require.NoError(t, p.join(t.Context(), text, "--agent", "print"))
	require.Equal(t, "agent run --cluster-name=eu-4 --spoke-kubeconfig="+p.dir+"/spoke.kubeconfig --store=files --data-dir="+p.dir+" --join="+text+"\n", p.out.String())
	p.requireRights(t, "workloads")
	raw, err := os.ReadFile(filepath.Join(p.dir, "spoke.kubeconfig"))
	require.NoError(t, err)
	require.NotContains(t, string(raw), "client-certificate", "nothing of the admin's own is in it")
	require.NoError(t, p.join(t.Context(), joinString(t, "eu-5"), "--agent", "print"))
	require.Contains(t, p.err.String(), `this cluster joined as "eu-4" before`)
}

// TestJoinInTheCluster runs the agent as a Deployment, whose Pods kwok makes
// ready, and writes what an agent would write.
func TestJoinInTheCluster(t *testing.T) {
	p := newPerson(t)
	var group errgroup.Group
	group.Go(func() error {
		return p.join(t.Context(), joinString(t, ""), "--name", "edge-1", "--image", "registry.example/agent:v1",
			"--proxy-url", "https://u:s3cr3t@proxy.test:3128", "--proxy-ca", proxyCA(t))
	})
	p.until(t, "Agent started as Deployment open-cluster-management-agent/fairlead-agent\n")
	d, err := p.kube.AppsV1().Deployments(namespace).Get(t.Context(), account, metav1.GetOptions{})
	require.NoError(t, err)
	container := d.Spec.Template.Spec.Containers[0]
	require.Equal(t, "registry.example/agent:v1", container.Image)
	require.Contains(t, container.Args, "--cluster-name=edge-1")
	require.NotContains(t, strings.Join(container.Args, " "), "flj1_")
	require.Equal(t, joinSecret, container.Env[0].ValueFrom.SecretKeyRef.Name)
	join, err := pki.ParseJoinString(joinString(t, ""))
	require.NoError(t, err)
	id, _, _ := strings.Cut(join.Token, ".")
	require.Equal(t, id, d.Spec.Template.Annotations[annotationToken], "RA-18: another join string starts the agent anew")
	require.NotContains(t, d.String(), "s3cr3t", "RA-54: the proxy's password is in a Secret")
	require.Contains(t, container.Args, "--proxy-ca-file=/etc/fairlead/proxy/proxy-ca.crt")
	require.Equal(t, proxySecret, container.Env[1].ValueFrom.SecretKeyRef.Name)
	proxy, err := p.kube.CoreV1().Secrets(namespace).Get(t.Context(), proxySecret, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "https://u:s3cr3t@proxy.test:3128", string(proxy.Data[keyProxyURL]))
	require.Contains(t, string(proxy.Data[keyProxyCA]), "BEGIN CERTIFICATE")

	own := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: credentials}, StringData: map[string]string{keyCluster: "edge-1", keyHub: "hub-y", keyPairing: "MNOP-QRST-UVWX", keyPending: "k"}}
	own, err = p.kube.CoreV1().Secrets(namespace).Create(t.Context(), own, metav1.CreateOptions{})
	require.NoError(t, err)
	p.until(t, "pairing code MNOP-QRST-UVWX\n")
	delete(own.Data, keyPending)
	own.StringData = map[string]string{keyCertificate: "chain"}
	_, err = p.kube.CoreV1().Secrets(namespace).Update(t.Context(), own, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, group.Wait())
	require.Contains(t, p.out.String(), "cluster edge-1 joined hub hub-y\n")

	err = p.join(t.Context(), joinString(t, "other"), "--agent", "print")
	require.ErrorContains(t, err, `this cluster has joined hub hub-y as "edge-1" already`)
}

// proxyCA writes a certificate to a file.
func proxyCA(t *testing.T) string {
	t.Helper()
	ca, err := pki.NewCA("proxy root", time.Now(), time.Hour)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "proxy.crt")
	require.NoError(t, os.WriteFile(path, pki.EncodeCertificates(ca.Cert), 0o600))
	return path
}

func TestJoinLeavesAnOCMAgentAlone(t *testing.T) {
	p := newPerson(t)
	require.NoError(t, p.join(t.Context(), joinString(t, "eu-6"), "--agent", "print"))
	own := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: credentials}, StringData: map[string]string{"kubeconfig": "of OCM", "cluster-name": "eu-6"}}
	_, err := p.kube.CoreV1().Secrets(namespace).Create(t.Context(), own, metav1.CreateOptions{})
	require.NoError(t, err)
	require.ErrorContains(t, p.join(t.Context(), joinString(t, "eu-6"), "--agent", "print"), "this cluster has an agent of Open Cluster Management")
}

func TestJoinGrantsWhatTheSpokeSays(t *testing.T) {
	p, team := newPerson(t), env.Shared(t).Unique("team")
	_, err := p.kube.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: team},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"*"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	bound := func() (roles []string) {
		list, err := p.kube.RbacV1().ClusterRoleBindings().List(t.Context(), metav1.ListOptions{LabelSelector: labelRole})
		require.NoError(t, err)
		for _, b := range list.Items {
			require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: namespace}}, b.Subjects)
			roles = append(roles, b.RoleRef.Name)
		}
		return roles
	}
	cases := []struct {
		reason string
		args   []string
		want   []string
		err    string
	}{
		{"by default applications", nil, []string{workloadsRole}, ""},
		{"roles of the spoke's own", []string{"--role", team + ",workloads"}, []string{team, workloadsRole}, ""},
		{"other roles take the place of those before", []string{"--role", team}, []string{team}, ""},
		{"a role that is not there changes nothing", []string{"--role", "no-team"}, []string{team}, "no such ClusterRole"},
		{"everything has to be said in so many words", []string{"--role", "cluster-admin"}, []string{team}, "say --cluster-admin"},
		{"and is given then", []string{"--cluster-admin"}, []string{"cluster-admin"}, ""},
		{"nothing at all", []string{"--role", "none"}, nil, ""},
	}
	for _, tc := range cases {
		err := p.join(t.Context(), append([]string{joinString(t, "eu-7"), "--agent", "print"}, tc.args...)...)
		if tc.err == "" {
			require.NoError(t, err, tc.reason)
		} else {
			require.ErrorContains(t, err, tc.err, tc.reason)
		}
		require.ElementsMatch(t, tc.want, bound(), tc.reason)
	}
}

// TestJoinNeedsAnAdmin joins with the rights of somebody who may only look.
func TestJoinNeedsAnAdmin(t *testing.T) {
	p := newPerson(t)
	viewer, err := env.Shared(t).ConfigFor("somebody")
	require.NoError(t, err)
	p.kubeconfig = filepath.Join(p.dir, "viewer")
	require.NoError(t, env.WriteKubeconfig(p.kubeconfig, viewer))
	err = p.join(t.Context(), joinString(t, "eu-8"), "--agent", "print")
	require.ErrorContains(t, err, "you lack rights on the cluster that joins: patch namespaces; patch customresourcedefinitions; patch clusterroles;")
	require.ErrorContains(t, err, "Hint: use a kubeconfig of one of its admins")
	require.Empty(t, p.out.String())
}

func TestJoinChecksBeforeItAsks(t *testing.T) {
	p := newPerson(t)
	p.kubeconfig = filepath.Join(p.dir, "nothing")
	cases := map[string]struct {
		reason string
		args   []string
		err    string
	}{
		"nothing":      {"there is no join string", nil, "a join string is needed"},
		"cut":          {"a character was lost", []string{joinString(t, "a")[:40]}, "[INVALID_JOIN_STRING]"},
		"other name":   {"it is for another cluster", []string{joinString(t, "a"), "--name", "b"}, "[NAME_NOT_ALLOWED]"},
		"no name":      {"it is for several", []string{joinString(t, "")}, "say which one this is with --name"},
		"bad name":     {"not an RFC 1123 label", []string{joinString(t, ""), "--name", "Not_A.Label"}, "[INVALID_NAME]"},
		"bad mode":     {"a slip", []string{joinString(t, "a"), "--agent", "pod"}, `--agent "pod" is not one of`},
		"no image":     {"a Deployment needs one", []string{joinString(t, "a"), "--agent", "deployment"}, "needs --image"},
		"bad proxy":    {"a proxy that cannot be one", []string{joinString(t, "a"), "--proxy-url", "socks5://p:1"}, "want http:// or https://"},
		"no proxy CA":  {"a slip", []string{joinString(t, "a"), "--proxy-ca", "nothing"}, "reading the CA of the proxy"},
		"no such file": {"the first thing that needs a file", []string{joinString(t, "a"), "--agent", "print"}, "--spoke-kubeconfig"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, p.join(t.Context(), tc.args...), tc.err, tc.reason)
		})
	}
}
