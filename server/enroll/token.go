// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
)

const (
	// TokenSecretType is the type of the Secrets that hold join tokens.
	TokenSecretType = "fairlead.dev/join-token" //nolint:gosec // a label
	// TokenLabel is on every one of them.
	TokenLabel = "fairlead.dev/join-token" //nolint:gosec // a key in a Secret

	tokenSecretPrefix = "fairlead-jointoken-"

	keySalt   = "salt"
	keyHash   = "hash"
	keyPolicy = "policy"
	keyUses   = "uses"

	tokenIDLen       = 10
	tokenSecretBytes = 32
	tokenSaltBytes   = 16

	defaultTTL  = time.Hour
	maxTTL      = 24 * time.Hour
	maxUsesEver = 1000 // their record must fit into a Secret
	maxLabels   = 32
)

// Policy is what a join token allows.
type Policy struct { //nolint:recvcheck // UnmarshalJSON needs a pointer, nobody else does
	// ClusterName is the one name that may join; or NamePattern, a glob over
	// names (`edge-*`). One of them must be set.
	ClusterName string `json:"clusterName,omitempty"`
	NamePattern string `json:"namePattern,omitempty"`
	// TTL is how long the token lives; 0 means an hour, at most 24 hours.
	TTL time.Duration `json:"-"`
	// MaxUses is how many keys may use it; 0 means one.
	MaxUses int `json:"maxUses"`
	// SourceCIDRs, if any, are the networks from which it may be used.
	SourceCIDRs []netip.Prefix `json:"sourceCIDRs,omitempty"`
	// AutoAccept accepts whoever uses it, without a person comparing the pairing
	// code. The caller of Create has checked that its maker may do that.
	AutoAccept bool `json:"autoAccept,omitempty"`
	// ReEnroll lets in a cluster that was issued a certificate before. It needs
	// ClusterName.
	ReEnroll bool `json:"reEnroll,omitempty"`
	// ClusterLabels are given to the ManagedClusters that the hub makes for the
	// token; one that was made beforehand keeps its own.
	ClusterLabels map[string]string `json:"clusterLabels,omitempty"`
}

// Token is a join token as recorded. Its secret is not: only a salted hash is.
type Token struct {
	ID        string
	Policy    Policy
	CreatedBy string
	Created   time.Time
	Expires   time.Time
	Uses      []Use
}

// Use is one key that used a token for one cluster.
type Use struct {
	KeySHA256 string    `json:"key"`
	Cluster   string    `json:"cluster"`
	At        time.Time `json:"at"`
	Source    string    `json:"source,omitempty"`
}

// UsesLeft is how many more keys may use the token.
func (t *Token) UsesLeft() int { return max(t.Policy.MaxUses-len(t.Uses), 0) }

// tokenRecord is the policy as stored.
type tokenRecord struct {
	Policy
	CreatedBy string    `json:"createdBy,omitempty"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
}

// Tokens keeps join tokens in Secrets of the hub's namespace. The client must
// not read Secrets from a cache. Safe for concurrent use.
type Tokens struct {
	client    client.Client
	namespace string
	clock     clock.PassiveClock
}

// NewTokens makes Tokens for a hub namespace.
func NewTokens(c client.Client, namespace string, clk clock.PassiveClock) *Tokens {
	return &Tokens{client: c, namespace: namespace, clock: clk}
}

// Create makes a token. The second result, <id>.<secret>, is the only time that
// its secret is seen.
func (t *Tokens) Create(ctx context.Context, policy Policy, by string) (Token, string, error) {
	if err := policy.complete(); err != nil {
		return Token{}, "", err
	}
	id, secret, salt := randomText(tokenIDLen), randomBase32(tokenSecretBytes), randomBytes(tokenSaltBytes)
	now := t.clock.Now().UTC().Truncate(time.Second)
	token := Token{ID: id, Policy: policy, CreatedBy: by, Created: now, Expires: now.Add(policy.TTL)}
	record, err := json.Marshal(tokenRecord{Policy: policy, CreatedBy: by, Created: now, Expires: token.Expires})
	if err != nil {
		return Token{}, "", fmt.Errorf("encoding the policy of token %q: %w", id, err)
	}
	if err := t.client.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: tokenSecretPrefix + id, Namespace: t.namespace, Labels: map[string]string{TokenLabel: "true"}},
		Type:       TokenSecretType,
		Data:       map[string][]byte{keySalt: salt, keyHash: tokenHash(salt, secret), keyPolicy: record, keyUses: []byte("[]")},
	}); err != nil {
		return Token{}, "", fmt.Errorf("writing join token %q: %w", id, err)
	}
	return token, id + "." + secret, nil
}

// complete fills defaults in and says what makes no sense.
func (p *Policy) complete() error {
	if p.TTL == 0 {
		p.TTL = defaultTTL
	}
	if p.MaxUses == 0 {
		p.MaxUses = 1
	}
	switch {
	case (p.ClusterName == "") == (p.NamePattern == ""):
		return refuse(reason.InvalidArgument, "a join token needs either a cluster name or a name pattern")
	case p.TTL < 0 || p.TTL > maxTTL:
		return refuse(reason.InvalidArgument, "a join token lives at most %v, not %v", maxTTL, p.TTL)
	case p.MaxUses < 0 || p.MaxUses > maxUsesEver:
		return refuse(reason.InvalidArgument, "a join token has 1 to %d uses, not %d", maxUsesEver, p.MaxUses)
	case p.ReEnroll && p.ClusterName == "":
		return refuse(reason.InvalidArgument, "a re-enroll token is for one cluster: name it instead of giving a pattern")
	}
	if err := checkLabels(p.ClusterLabels); err != nil {
		return err
	}
	if p.ClusterName != "" {
		if err := identity.ValidateClusterName(p.ClusterName); err != nil {
			return refuse(reason.InvalidName, "%v", err)
		}
		return nil
	}
	if _, err := path.Match(p.NamePattern, ""); err != nil || strings.ContainsAny(p.NamePattern, "/\\ ") {
		return refuse(reason.InvalidArgument, "name pattern %q is not a glob over cluster names such as %q", p.NamePattern, "edge-*")
	}
	return nil
}

// checkLabels refuses what is no label, and labels that mean something to OCM or
// to us: to have a cluster in a set, somebody who may join that set labels it.
func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return refuse(reason.InvalidArgument, "a join token gives at most %d labels, not %d", maxLabels, len(labels))
	}
	for key, value := range labels {
		problems := append(content.IsLabelKey(key), content.IsLabelValue(value)...)
		if len(problems) > 0 {
			return refuse(reason.InvalidArgument, "%q=%q is no label: %s", key, value, problems[0])
		}
		domain, _, _ := strings.Cut(key, "/")
		for _, reserved := range []string{"open-cluster-management.io", "fairlead.dev"} {
			if domain == reserved || strings.HasSuffix(domain, "."+reserved) {
				return refuse(reason.InvalidArgument, "label %q belongs to %s; set it on the cluster once it has joined", key, reserved)
			}
		}
	}
	return nil
}

// List returns all join tokens, oldest first, expired ones too.
func (t *Tokens) List(ctx context.Context) ([]Token, error) {
	var secrets corev1.SecretList
	if err := t.client.List(ctx, &secrets, client.InNamespace(t.namespace), client.HasLabels{TokenLabel}); err != nil {
		return nil, fmt.Errorf("listing join tokens: %w", err)
	}
	tokens := make([]Token, 0, len(secrets.Items))
	for i := range secrets.Items {
		token, err := parseToken(&secrets.Items[i])
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token)
	}
	slices.SortFunc(tokens, func(a, b Token) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return tokens, nil
}

// Revoke removes a join token. What it let in already stays.
func (t *Tokens) Revoke(ctx context.Context, id string) error {
	if !validTokenID(id) {
		return refuse(reason.NotFound, "there is no join token %q", id)
	}
	err := t.client.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: tokenSecretPrefix + id, Namespace: t.namespace}})
	if apierrors.IsNotFound(err) {
		return refuse(reason.NotFound, "there is no join token %q", id)
	}
	if err != nil {
		return fmt.Errorf("revoking join token %q: %w", id, err)
	}
	return nil
}

// Sweep removes tokens that expired more than keep ago.
func (t *Tokens) Sweep(ctx context.Context, keep time.Duration) error {
	tokens, err := t.List(ctx)
	if err != nil {
		return err
	}
	for _, token := range tokens {
		if t.clock.Now().Sub(token.Expires) < keep {
			continue
		}
		if err := t.Revoke(ctx, token.ID); err != nil && !isReason(err, reason.NotFound) {
			return err
		}
	}
	return nil
}

func parseToken(secret *corev1.Secret) (Token, error) {
	var record tokenRecord
	if err := json.Unmarshal(secret.Data[keyPolicy], &record); err != nil {
		return Token{}, fmt.Errorf("join token in Secret %s/%s: key %q does not parse: %w", secret.Namespace, secret.Name, keyPolicy, err)
	}
	var uses []Use
	if err := json.Unmarshal(secret.Data[keyUses], &uses); err != nil {
		return Token{}, fmt.Errorf("join token in Secret %s/%s: key %q does not parse: %w", secret.Namespace, secret.Name, keyUses, err)
	}
	record.TTL = record.Expires.Sub(record.Created)
	return Token{
		ID: strings.TrimPrefix(secret.Name, tokenSecretPrefix), Policy: record.Policy, CreatedBy: record.CreatedBy,
		Created: record.Created, Expires: record.Expires, Uses: uses,
	}, nil
}

// tokenHash needs no slow function: the secret is 256 random bits.
func tokenHash(salt []byte, secret string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(secret))
	return h.Sum(nil)
}

func sameHash(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

func validTokenID(id string) bool {
	return len(id) == tokenIDLen && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func randomBytes(n int) []byte {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails; see crypto/rand
	return raw
}

func randomBase32(n int) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(randomBytes(n)))
}

func randomText(n int) string { return randomBase32(n)[:n] }
