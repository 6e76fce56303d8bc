// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"fairlead.dev/fairlead/test/env"
)

func TestMain(m *testing.M) { env.Main(m, env.Options{Name: "cli"}) }

// kubeconfig writes one with these credentials for the plane.
func kubeconfig(t *testing.T, user *clientcmdapi.AuthInfo) string {
	t.Helper()
	admin := env.Shared(t).RESTConfig()
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData}
	config.AuthInfos["u"] = user
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, file))
	return file
}

// plugin is an exec plugin that prints this token.
func plugin(t *testing.T, token string) *clientcmdapi.AuthInfo {
	t.Helper()
	script := filepath.Join(t.TempDir(), "plugin")
	text := "#!/bin/sh\necho '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"" + token + "\"}}'\n"
	require.NoError(t, os.WriteFile(script, []byte(text), 0o700))
	return &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
		Command: script, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
	}}
}

func TestTokenOfKubeconfigs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("from-file\n"), 0o600))
	cases := map[string]struct {
		reason string
		user   *clientcmdapi.AuthInfo
		want   string
	}{
		"token":  {"as it stands there", &clientcmdapi.AuthInfo{Token: "plain"}, "plain"},
		"file":   {"read when it is needed", &clientcmdapi.AuthInfo{TokenFile: file}, "from-file"},
		"plugin": {"OIDC and cloud logins are plugins", plugin(t, "from-plugin"), "from-plugin"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := &Options{Kubeconfig: kubeconfig(t, tc.user), Err: &bytes.Buffer{}}
			config, err := o.RESTConfig(Context{})
			require.NoError(t, err)
			metadata, err := o.person(config).GetRequestMetadata(t.Context())
			require.NoError(t, err, tc.reason)
			require.Equal(t, map[string]string{"authorization": "Bearer " + tc.want}, metadata, tc.reason)
		})
	}
}

func TestNoTokenOfKubeconfigs(t *testing.T) {
	cases := map[string]struct {
		reason string
		user   *clientcmdapi.AuthInfo
	}{
		"password":      {"Basic is no bearer token", &clientcmdapi.AuthInfo{Username: "u", Password: "p"}},
		"broken plugin": {"it says why", &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{Command: "no-such-program", APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode}}},
		"nobody":        {"an anonymous kubeconfig", &clientcmdapi.AuthInfo{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := &Options{Kubeconfig: kubeconfig(t, tc.user), Err: &bytes.Buffer{}, Account: "default/default"}
			config, err := o.RESTConfig(Context{})
			require.NoError(t, err)
			_, err = o.person(config).token(t.Context())
			require.Error(t, err, tc.reason)
		})
	}
}

// TestTokenForCertificates asks a real apiserver for a token of a ServiceAccount
// that a person with a certificate may use, and of one that they may not.
func TestTokenForCertificates(t *testing.T) {
	plane := env.Shared(t)
	admin, err := kubernetes.NewForConfig(plane.RESTConfig())
	require.NoError(t, err)
	ctx, hub := t.Context(), plane.Namespace(t, "hub")
	for _, name := range []string{"fairlead-admin", "other"} {
		_, err = admin.CoreV1().ServiceAccounts(hub).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	rules := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{"fairlead-admin"}, Verbs: []string{"create"}}}
	_, err = admin.RbacV1().Roles(hub).Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "alice"}, Rules: rules}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admin.RbacV1().RoleBindings(hub).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "alice"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "alice"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	alice, err := plane.ConfigFor("alice")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "alice")
	require.NoError(t, env.WriteKubeconfig(file, alice))

	var notes bytes.Buffer
	o := &Options{Kubeconfig: file, Account: hub + "/fairlead-admin", Err: &notes}
	config, err := o.RESTConfig(Context{})
	require.NoError(t, err)
	p := o.person(config)
	env.AwaitRights(t, plane.RESTConfig(), "alice", hub, rules...)
	token, err := p.token(ctx)
	require.NoError(t, err)
	require.Equal(t, "Acting as ServiceAccount "+hub+"/fairlead-admin: your kubeconfig has a certificate, and the hub needs a token.\n", notes.String())
	review, err := admin.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Equal(t, "system:serviceaccount:"+hub+":fairlead-admin", review.Status.User.Username)
	require.WithinDuration(t, time.Now().Add(10*time.Minute), p.until, time.Minute, "it lives as short as Kubernetes allows")

	again, err := p.token(ctx)
	require.NoError(t, err)
	require.Equal(t, token, again, "one token serves many calls")
	p.until = time.Now().Add(time.Minute)
	renewed, err := p.token(ctx)
	require.NoError(t, err)
	require.NotEqual(t, token, renewed, "a watch that lives on gets a new one before the old one ends")
	require.Equal(t, 1, bytes.Count(notes.Bytes(), []byte("\n")), "it is said once")

	o.Account = hub + "/other"
	_, err = o.person(config).token(ctx)
	require.ErrorContains(t, err, "a token of ServiceAccount "+hub+"/other could not be had")
	require.ErrorContains(t, err, "Hint: name one that you may use with --service-account")
	o.Account = "no-slash"
	_, err = o.person(config).token(ctx)
	require.ErrorContains(t, err, `--service-account "no-slash" is not namespace/name`)
}
