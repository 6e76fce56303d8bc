// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	endpoint = "hub.test:443"
	hubID    = "hub-1"
)

// hub is the hub's half of enrollment, as simple as it can be.
type hub struct {
	agentv1.UnimplementedAgentServiceServer
	t        *testing.T
	serving  *pki.CA // signs the hub's certificate
	agents   *pki.CA // signs those of agents
	listener *bufconn.Listener
	server   *grpc.Server

	mu       sync.Mutex
	tokens   []string            // every token that arrived
	keys     map[string]struct{} // every key that enrolled
	spki     []byte
	csr      *x509.CertificateRequest
	state    agentv1.EnrollmentState
	code     string // instead of the right pairing code
	refuse   []error
	pollErr  []error
	polls    int
	badProof int
	subject  *identity.Agent // instead of the right one
	lifetime time.Duration
	trust    *agentv1.TrustBundle
}

func newHub(t *testing.T) *hub {
	t.Helper()
	now := time.Now()
	serving, err := pki.NewCA("hub root", now, 10000*time.Hour)
	require.NoError(t, err)
	agents, err := pki.NewCA("agents", now, 10000*time.Hour)
	require.NoError(t, err)
	h := &hub{
		t: t, serving: serving, agents: agents, listener: bufconn.Listen(1 << 20), keys: map[string]struct{}{}, lifetime: 24 * time.Hour,
		state: agentv1.EnrollmentState_ENROLLMENT_STATE_PENDING,
	}
	cert, err := serving.IssueServing([]string{"hub.test"}, now, 5000*time.Hour)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(agents.Cert)
	h.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(pki.NewServer(pki.ServerState{Certificate: cert, ClientCAs: pool}).TLSConfig())))
	agentv1.RegisterAgentServiceServer(h.server, h)
	go func() { _ = h.server.Serve(h.listener) }()
	return h
}

func (h *hub) dial(ctx context.Context, _ string) (net.Conn, error) {
	return h.listener.DialContext(ctx)
}

func (h *hub) join(edit ...func(*pki.JoinString)) string {
	pin := pki.Fingerprint(h.serving.Cert)
	j := pki.JoinString{Endpoints: []string{endpoint}, CASHA256: hexOf(pin[:]), Token: "id1.secret", Name: "spoke-1"}
	for _, f := range edit {
		f(&j)
	}
	text, err := j.Encode()
	require.NoError(h.t, err)
	return text
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

func (h *hub) set(edit func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	edit()
}

func (h *hub) get(read func() any) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	return read()
}

func shift(list *[]error) error {
	if len(*list) == 0 {
		return nil
	}
	err := (*list)[0]
	*list = (*list)[1:]
	return err
}

// Enroll implements the service.
func (h *hub) Enroll(_ context.Context, r *agentv1.EnrollRequest) (*agentv1.EnrollResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens = append(h.tokens, r.GetJoinToken())
	if err := shift(&h.refuse); err != nil {
		return nil, err
	}
	csr, agent, err := pki.ParseCSR(r.GetCsrDer())
	if err != nil || agent.Cluster != r.GetClusterName() {
		return nil, status.Error(codes.InvalidArgument, "bad csr")
	}
	h.spki, h.csr = csr.RawSubjectPublicKeyInfo, csr
	h.keys[pki.KeySHA256(h.spki)] = struct{}{}
	code := identity.PairingCode(h.spki, r.GetClusterName(), hubID)
	if h.code != "" {
		code = h.code
	}
	return &agentv1.EnrollResponse{EnrollmentId: "e-1", State: h.state, PairingCode: code, HubId: hubID, Challenge: []byte("challenge")}, nil
}

// GetEnrollment implements the service: a long poll.
func (h *hub) GetEnrollment(ctx context.Context, r *agentv1.GetEnrollmentRequest) (*agentv1.GetEnrollmentResponse, error) {
	for deadline := time.After(r.GetWait().AsDuration()); ; {
		h.mu.Lock()
		h.polls++
		if pki.VerifyProof(h.spki, r.GetEnrollmentId(), r.GetChallenge(), r.GetProof()) != nil {
			h.badProof++
		}
		err, state := shift(&h.pollErr), h.state
		h.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case state == agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED:
			return &agentv1.GetEnrollmentResponse{State: state, Certificate: h.issue()}, nil
		case state != agentv1.EnrollmentState_ENROLLMENT_STATE_PENDING:
			return &agentv1.GetEnrollmentResponse{State: state, Reason: "not ours"}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline:
			return &agentv1.GetEnrollmentResponse{State: state, Challenge: []byte("challenge " + time.Now().String())}, nil
		case <-time.After(10 * time.Second):
		}
	}
}

// RenewCertificate implements the service.
func (h *hub) RenewCertificate(_ context.Context, r *agentv1.RenewCertificateRequest) (*agentv1.RenewCertificateResponse, error) {
	csr, _, err := pki.ParseCSR(r.GetCsrDer())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "bad csr")
	}
	h.set(func() {
		h.csr = csr
		h.keys[pki.KeySHA256(csr.RawSubjectPublicKeyInfo)] = struct{}{}
		err = shift(&h.refuse)
	})
	if err != nil {
		return nil, err
	}
	return &agentv1.RenewCertificateResponse{Certificate: h.issue()}, nil
}

func (h *hub) issue() *agentv1.IssuedCertificate {
	h.mu.Lock()
	defer h.mu.Unlock()
	agent, err := identity.ParseSubject(h.csr.Subject)
	require.NoError(h.t, err)
	agent.HubID, agent.UID = hubID, "uid-1"
	if h.subject != nil {
		agent = *h.subject
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject: identity.Subject(agent.Cluster, agent.Name), NotBefore: now.Add(-pki.Backdate), NotAfter: now.Add(h.lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	template.URIs = append(template.URIs, agent.URI())
	cert, err := h.agents.Issue(template, h.csr.PublicKey)
	require.NoError(h.t, err)
	return &agentv1.IssuedCertificate{
		ChainDer: [][]byte{cert.Raw, h.agents.Cert.Raw}, NotAfter: timestamppb.New(cert.NotAfter),
		RenewAfter: timestamppb.New(now.Add(h.lifetime * 65 / 100)), TrustBundle: h.trust,
	}
}

func (h *hub) config(vault Vault, join string) Config {
	return Config{Vault: vault, Log: slog.New(slog.DiscardHandler), Join: join, Fingerprint: "fp", AgentID: "id", Version: "test", Dial: h.dial}
}

func enroll(t *testing.T, cfg Config) (*Credentials, error) {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return e.Credentials(t.Context())
}

func TestEnrollment(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		cfg := h.config(vault, h.join())
		var waiting []Request
		cfg.Waiting = func(r Request) { waiting = append(waiting, r) }
		time.AfterFunc(5*time.Minute, func() { h.set(func() { h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED }) })
		creds, err := enroll(t, cfg)
		require.NoError(t, err)
		require.Equal(t, "spoke-1", creds.Cluster())
		require.Equal(t, hubID, creds.HubID())
		require.Equal(t, []string{endpoint}, creds.Endpoints())
		require.Len(t, waiting, 1)
		require.Equal(t, identity.PairingCode(h.spki, "spoke-1", hubID), waiting[0].PairingCode)
		require.Len(t, h.tokens, 1)
		require.Zero(t, h.badProof)
		require.Equal(t, creds.NotAfter().Add(-24*time.Hour*35/100), creds.RenewAt())

		again, err := enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		require.Equal(t, creds.NotAfter(), again.NotAfter())
		require.Len(t, h.tokens, 1, "the certificate that is there is used")

		record, err := vault.Load(t.Context())
		require.NoError(t, err)
		require.Equal(t, "id1", record.TokenID)
		require.Empty(t, record.PendingKey)
		require.Equal(t, waiting[0].PairingCode, record.PairingCode)
	})
}

func vaultContract(t *testing.T, vault Vault) {
	t.Helper()
	empty, err := vault.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, Record{}, empty)
	want := Record{
		ClusterName: "c", AgentName: "a", HubID: "h", Endpoints: []string{"x:1", "y:2"}, CAs: []byte("ca"), TrustVersion: 7,
		Certificate: []byte("cert"), Key: []byte("key"), RenewAfter: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		PendingKey: []byte("pk"), PendingToken: "pt", EnrollmentID: "e", PairingCode: "p", TokenID: "t",
	}
	require.NoError(t, vault.Save(t.Context(), want))
	got, err := vault.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
	want.PendingKey, want.RenewAfter, want.TrustVersion = nil, time.Time{}, 0
	require.NoError(t, vault.Save(t.Context(), want))
	got, err = vault.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// TestNames: where names come from, and that they stay. There are no random
// names of clusters: who makes the token says which cluster may join by it.
func TestNames(t *testing.T) {
	for name, tc := range map[string]struct{ flag, joined, want string }{
		"RA-02_the_flag_first":       {"from-flag", "from-join", "from-flag"},
		"RA-02_then_the_join_string": {"", "from-join", "from-join"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			t.Cleanup(h.server.Stop)
			h.set(func() { h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED })
			vault, err := NewFileVault(t.TempDir())
			require.NoError(t, err)
			cfg := h.config(vault, h.join(func(j *pki.JoinString) { j.Name = tc.joined }))
			cfg.ClusterName = tc.flag
			first, err := enroll(t, cfg)
			require.NoError(t, err)
			require.Equal(t, tc.want, first.Cluster())
			require.NoError(t, identity.ValidateAgentName(first.AgentName()))

			cfg.Join, cfg.ClusterName = "", "" // a restart that is told nothing
			again, err := enroll(t, cfg)
			require.NoError(t, err)
			require.Equal(t, []string{first.Cluster(), first.AgentName()}, []string{again.Cluster(), again.AgentName()})
		})
	}
	t.Run("RA-02_a_name_that_no_namespace_can_have", func(t *testing.T) {
		_, err := New(Config{ClusterName: "Not.A.Namespace"})
		require.ErrorContains(t, err, "Not.A.Namespace")
	})
}

func TestT64_token_never_goes_to_another_hub(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		other := newHub(t)
		defer other.server.Stop()
		cfg := h.config(vault, h.join())
		cfg.Dial = other.dial
		_, err := enroll(t, cfg)
		require.ErrorIs(t, err, &Error{Reason: reason.HubCAMismatch})
		require.ErrorContains(t, err, "check that the join string")
		require.Empty(t, other.tokens, "not a byte of it")
	})
}

func TestRestartWhilePendingGoesOnWithTheSameKey(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		e, err := New(h.config(vault, h.join()))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		_, err = e.Credentials(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		h.set(func() { h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED })
		creds, err := enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		require.Len(t, h.keys, 1, "one key, so the token was used once")
		require.NotEmpty(t, creds.AgentName())
	})
}

func TestT43_lost_replies(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		h.refuse = []error{status.Error(codes.Unavailable, "cut"), status.Error(codes.Unavailable, "cut")}
		stale, err := status.New(codes.PermissionDenied, "the challenge is too old").WithDetails(&errdetails.ErrorInfo{Reason: reason.InvalidProof})
		require.NoError(t, err)
		h.pollErr = []error{status.Error(codes.Unavailable, "cut"), stale.Err()}
		_, err = enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		require.Len(t, h.keys, 1)
	})
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	tests := map[string]struct {
		code   codes.Code
		reason string
		says   string
	}{
		"unknown token": {codes.PermissionDenied, reason.InvalidToken, "fairlead token create"},
		"expired token": {codes.PermissionDenied, reason.TokenExpired, "fairlead token create"},
		"used token":    {codes.AlreadyExists, reason.TokenUsed, "another key has used this token"},
		"wrong name":    {codes.PermissionDenied, reason.NameNotAllowed, "the cluster name that the token was made for"},
		"name taken":    {codes.AlreadyExists, reason.ClusterExists, "choose another --cluster-name"},
		"bad name":      {codes.InvalidArgument, reason.InvalidName, "RFC 1123"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
				s, err := status.New(tc.code, "no").WithDetails(&errdetails.ErrorInfo{Reason: tc.reason})
				require.NoError(t, err)
				h.refuse = []error{s.Err()}
				_, err = enroll(t, h.config(vault, h.join()))
				require.ErrorIs(t, err, &Error{Reason: tc.reason})
				require.ErrorContains(t, err, tc.says)
				require.Len(t, h.tokens, 1, "not tried again by itself")
			})
		})
	}
}

func TestBusyHubIsAskedLater(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		s, err := status.New(codes.ResourceExhausted, "too many").WithDetails(
			&errdetails.ErrorInfo{Reason: reason.TooManyPending}, &errdetails.RetryInfo{RetryDelay: durationpb.New(90 * time.Second)})
		require.NoError(t, err)
		h.refuse = []error{s.Err()}
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		began := time.Now()
		_, err = enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(began), 90*time.Second, "RetryInfo is a floor")
	})
}

func TestEnrollmentEnds(t *testing.T) {
	for state, says := range map[agentv1.EnrollmentState]string{
		agentv1.EnrollmentState_ENROLLMENT_STATE_DENIED:  "denied on the hub (not ours)",
		agentv1.EnrollmentState_ENROLLMENT_STATE_EXPIRED: "not accepted in time",
		agentv1.EnrollmentState_ENROLLMENT_STATE_REVOKED: "revoked",
	} {
		t.Run(state.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
				h.state = state
				_, err := enroll(t, h.config(vault, h.join()))
				require.ErrorIs(t, err, &Error{Reason: reason.EnrollmentEnded})
				require.ErrorContains(t, err, says)

				h.set(func() { h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED })
				_, err = enroll(t, h.config(vault, h.join(func(j *pki.JoinString) { j.Token = "id2.secret" })))
				require.NoError(t, err)
				require.Len(t, h.keys, 2, "a new join string begins anew, with a new key")
			})
		})
	}
}

func TestForeignPairingCode(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.code = "AAAA-BBBB-CCCC"
		_, err := enroll(t, h.config(vault, h.join()))
		require.ErrorIs(t, err, &Error{Reason: reason.PairingCodeMismatch})
		require.Zero(t, h.polls)
	})
}

func TestBadInput(t *testing.T) {
	tests := map[string]struct {
		join, name string
		want       string
	}{
		"no join string":      {want: reason.InvalidJoinString},
		"malformed":           {join: "flj1_nonsense", want: reason.InvalidJoinString},
		"not a label":         {join: "JOIN", name: "Spoke_1", want: reason.InvalidName},
		"no name":             {join: "NAMELESS", want: reason.InvalidName},
		"name with two parts": {join: "JOIN", name: "a.b", want: reason.InvalidName},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
				join := tc.join
				switch join {
				case "JOIN":
					join = h.join()
				case "NAMELESS":
					join = h.join(func(j *pki.JoinString) { j.Name = "" })
				}
				cfg := h.config(vault, join)
				cfg.ClusterName = tc.name
				_, err := enroll(t, cfg)
				require.ErrorIs(t, err, &Error{Reason: tc.want})
				require.Empty(t, h.tokens, "nobody was asked")
			})
		})
	}
}

func TestForeignCertificatesAreRefused(t *testing.T) {
	for name, agent := range map[string]identity.Agent{
		"another cluster": {Cluster: "spoke-2", Name: "agent-x", HubID: hubID, UID: "u"},
		"another hub":     {Cluster: "spoke-1", Name: "agent-x", HubID: "hub-2", UID: "u"},
		"another agent":   {Cluster: "spoke-1", Name: "agent-y", HubID: hubID, UID: "u"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
				h.state, h.subject = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED, &agent
				cfg := h.config(vault, h.join())
				cfg.AgentName = "agent-x"
				_, err := enroll(t, cfg)
				require.ErrorIs(t, err, &Error{Reason: reason.CertificateError})
				record, err := vault.Load(t.Context())
				require.NoError(t, err)
				require.Empty(t, record.Certificate)
			})
		})
	}
}

func TestRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, vault Vault) { //nolint:thelper // a test body
		h.state = agentv1.EnrollmentState_ENROLLMENT_STATE_ISSUED
		creds, err := enroll(t, h.config(vault, h.join()))
		require.NoError(t, err)
		first := creds.NotAfter()
		time.Sleep(time.Until(creds.RenewAt()))

		config, err := creds.TLS(endpoint)
		require.NoError(t, err)
		conn, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithContextDialer(h.dial))
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		h.set(func() {
			h.refuse = []error{status.Error(codes.Unavailable, "cut")}
			h.trust = &agentv1.TrustBundle{Version: 2, HubCaDer: [][]byte{h.serving.Cert.Raw, h.agents.Cert.Raw}}
		})
		require.Error(t, creds.Renew(t.Context(), conn))
		require.Equal(t, first, creds.NotAfter(), "what is there stays until the new one is stored")
		require.NoError(t, creds.Renew(t.Context(), conn))
		require.Len(t, h.get(func() any { return h.keys }), 2, "a new key for each certificate, the same one for a repeated call")
		require.Greater(t, creds.NotAfter(), first)
		require.EqualValues(t, 2, creds.TrustVersion())

		require.NoError(t, creds.Trust(t.Context(), &agentv1.TrustBundle{Version: 1}), "older roots change nothing")
		require.Error(t, creds.Trust(t.Context(), &agentv1.TrustBundle{Version: 3}), "no roots at all are not taken")
		require.EqualValues(t, 2, creds.TrustVersion())

		again, err := enroll(t, h.config(vault, ""))
		require.NoError(t, err)
		require.Equal(t, creds.NotAfter(), again.NotAfter(), "renewed credentials survive a restart")
		require.EqualValues(t, 2, again.TrustVersion())
	})
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		defer h.server.Stop()
		path := func(name string) string { return filepath.Join(dir, name) }
		write := func(cluster string) {
			key, err := pki.NewKey()
			require.NoError(t, err)
			now := time.Now()
			cert, err := h.agents.Issue(&x509.Certificate{
				Subject: identity.Subject(cluster, "agent"), NotBefore: now, NotAfter: now.Add(10 * time.Hour),
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}, key.Public())
			require.NoError(t, err)
			raw, err := pki.EncodeKey(key)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path("ca"), pki.EncodeCertificates(h.serving.Cert), 0o600))
			require.NoError(t, os.WriteFile(path("cert"), pki.EncodeCertificates(cert), 0o600))
			require.NoError(t, os.WriteFile(path("key"), raw, 0o600))
		}
		cfg := FilesConfig{ClusterName: "spoke-1", CertFile: path("cert"), KeyFile: path("key"), Root: path("ca")}
		_, err := NewFiles(cfg)
		require.ErrorIs(t, err, os.ErrNotExist)
		write("spoke-2")
		_, err = NewFiles(cfg)
		require.ErrorIs(t, err, &Error{Reason: reason.InvalidName})
		write("spoke-1")
		files, err := NewFiles(cfg)
		require.NoError(t, err)
		require.Equal(t, 9*time.Hour, time.Until(files.RenewAt()))
		require.Equal(t, "agent", files.AgentName())
		require.Error(t, files.Renew(t.Context(), nil), "somebody else has to replace it")
		time.Sleep(11 * time.Hour)
		_, err = files.TLS(endpoint)
		require.ErrorIs(t, err, &Error{Reason: reason.CertificateExpired})
		write("spoke-1")
		require.NoError(t, files.Renew(t.Context(), nil))
		_, err = files.TLS(endpoint)
		require.NoError(t, err)
	})
}
