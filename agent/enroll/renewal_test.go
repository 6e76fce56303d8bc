// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

func inBubble(t *testing.T, test func(t *testing.T, h *hub, vault Vault)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		defer h.server.Stop()
		vault, err := NewFileVault(filepath.Join(dir, "state"))
		require.NoError(t, err)
		test(t, h, vault)
	})
}

func TestVaults(t *testing.T) {
	t.Run("RA-10_a_certificate_and_no_kubeconfig_in_the_Secret", secretVault)
	t.Run("RA-11_files_for_the_owner_only", ownersVault)
}

func secretVault(t *testing.T) {
	client := fake.NewClientset(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "agent", Name: DefaultSecret}, Data: map[string][]byte{"kubeconfig": []byte("of others")},
	}).CoreV1().Secrets("agent")
	vaultContract(t, NewSecretVault(client, "another"))
	vaultContract(t, NewSecretVault(client, DefaultSecret))
	secret, err := client.Get(t.Context(), DefaultSecret, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "of others", string(secret.Data["kubeconfig"]))
	require.Equal(t, "cert", string(secret.Data["tls.crt"]))
	require.Equal(t, "c", string(secret.Data["cluster-name"]))
	require.NotContains(t, secret.Data, "pending.key")
}

func ownersVault(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	vault, err := NewFileVault(dir)
	require.NoError(t, err)
	vaultContract(t, vault)
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "credentials.json"): 0o600} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm())
	}
}

func TestT80_expired_certificate(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		creds, err := enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		time.Sleep(30 * 24 * time.Hour)
		_, err = creds.TLS(endpoint)
		require.ErrorIs(t, err, &Error{Reason: reason.CertificateExpired})
		require.ErrorContains(t, err, "re-enroll token")
		_, err = enroll(t, h.config(vault, ""))
		require.ErrorIs(t, err, &Error{Reason: reason.CertificateExpired})

		asked := len(h.tokens)
		_, err = enroll(t, h.config(vault, h.join()))
		require.ErrorIs(t, err, &Error{Reason: reason.CertificateExpired}, "the join string that it came from is of no use")
		require.Len(t, h.tokens, asked, "and the hub is not asked with it")

		_, err = enroll(t, h.config(vault, h.join(func(j *pki.JoinString) { j.Token = "id2.secret" })))
		require.NoError(t, err, "a re-enroll token brings it back")
	})
}

// TestCredentialsThatAreThere has when an agent enrolls anew.
func TestCredentialsThatAreThere(t *testing.T) {
	t.Run("RA-18_a_new_join_string_that_fails_leaves_the_old_certificate", newTokenFails)
	t.Run("RA-17_not_for_another_cluster", otherCluster)
}

func newTokenFails(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		first, err := enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		s, err := status.New(codes.AlreadyExists, "no").WithDetails(&errdetails.ErrorInfo{Reason: reason.ClusterExists})
		require.NoError(t, err)
		h.set(func() { h.refuse = []error{s.Err()} })
		creds, err := enroll(t, h.config(vault, h.join(func(j *pki.JoinString) { j.Token = "id2.secret" })))
		require.NoError(t, err)
		require.Equal(t, first.NotAfter(), creds.NotAfter())
	})
}

func otherCluster(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		_, err := enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		cfg := h.config(vault, "")
		cfg.ClusterName = "spoke-2"
		_, err = enroll(t, cfg)
		require.ErrorIs(t, err, &Error{Reason: reason.InvalidName})
	})
}

// connected is a connection that the credentials opened.
func (h *hub) connected(t *testing.T, creds *Credentials) *grpc.ClientConn {
	t.Helper()
	config, err := creds.TLS(endpoint)
	require.NoError(t, err)
	conn, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithContextDialer(h.dial))
	require.NoError(t, err)
	return conn
}

// TestRenewalThatIsTurnedDown asks again with another key.
func TestRenewalThatIsTurnedDown(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		creds, err := enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		conn := h.connected(t, creds)
		defer func() { _ = conn.Close() }()
		denied, err := status.New(codes.InvalidArgument, "denied").WithDetails(&errdetails.ErrorInfo{Reason: reason.InvalidCSR})
		require.NoError(t, err)
		h.set(func() { h.refuse = []error{denied.Err()} })
		require.Error(t, creds.Renew(t.Context(), conn))
		require.NoError(t, creds.Renew(t.Context(), conn))
		require.Len(t, h.get(func() any { return h.keys }), 3, "that of the first certificate, the one turned down, and another")
	})
}

// TestSiblingsShareAVault: what one renewed the other dials with; an older
// certificate would look like a clone to the hub.
func TestSiblingsShareAVault(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		one, err := enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		two, err := enroll(t, h.config(vault, ""))
		require.NoError(t, err)
		time.Sleep(time.Until(one.RenewAt()))
		conn := h.connected(t, one)
		defer func() { _ = conn.Close() }()
		require.NoError(t, one.Renew(t.Context(), conn))
		require.NotEqual(t, one.Serial(), two.Serial())
		_, err = two.TLS(endpoint)
		require.NoError(t, err)
		require.Equal(t, one.Serial(), two.Serial())
		require.WithinDuration(t, one.RenewAt(), two.RenewAt(), 0)
	})
}
