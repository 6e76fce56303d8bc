// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// presented is a join token as somebody shows it, and for what.
type presented struct {
	token     string // <id>.<secret>
	cluster   string
	keySHA256 string
	source    netip.Addr
}

func (p presented) id() string {
	id, _, _ := strings.Cut(p.token, ".")
	if !validTokenID(id) {
		return ""
	}
	return id
}

// check says whether the token is good for this use, without using it. A wrong
// secret and an id that does not exist give the same answer after the same work.
func (t *Tokens) check(ctx context.Context, p presented) (Token, error) {
	_, token, err := t.read(ctx, p)
	return token, err
}

// use records the key with the token, by compare-and-swap: of two keys that
// race for the last use one gets TOKEN_USED. A key that is recorded already
// passes again, without a write.
func (t *Tokens) use(ctx context.Context, p presented) (Token, error) {
	var token Token
	err := retry.OnError(retry.DefaultBackoff, apierrors.IsConflict, func() error {
		secret, current, err := t.read(ctx, p)
		if err != nil {
			return err
		}
		token = current
		if token.usedBy(p) {
			return nil
		}
		token.Uses = append(token.Uses, Use{KeySHA256: p.keySHA256, Cluster: p.cluster, At: t.clock.Now().UTC(), Source: p.source.String()})
		if secret.Data[keyUses], err = json.Marshal(token.Uses); err != nil {
			return fmt.Errorf("encoding the uses of join token %q: %w", token.ID, err)
		}
		return t.client.Update(ctx, secret) // with the resourceVersion that was read
	})
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return Token{}, fmt.Errorf("recording the use of a join token: %w", err)
	}
	return token, err
}

// read fetches the token and holds secret and policy against this use.
func (t *Tokens) read(ctx context.Context, p presented) (*corev1.Secret, Token, error) {
	unknown := refuse(reason.InvalidToken, "the join token is not known here; check that it was copied whole, or ask the hub's admin for a new one")
	id := p.id()
	if id == "" {
		return nil, Token{}, unknown
	}
	secret := &corev1.Secret{}
	err := t.client.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: tokenSecretPrefix + id}, secret)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, Token{}, fmt.Errorf("reading join token %q: %w", id, err)
	}
	_, shown, _ := strings.Cut(p.token, ".")
	// An id that does not exist is compared too, with nothing, so that it takes as long.
	same := sameHash(tokenHash(secret.Data[keySalt], shown), secret.Data[keyHash])
	if !same || secret.Type != TokenSecretType {
		return nil, Token{}, unknown
	}
	token, err := parseToken(secret)
	if err != nil {
		return nil, Token{}, err
	}
	if err := token.allows(p, t); err != nil {
		return nil, Token{}, err
	}
	return secret, token, nil
}

func (t *Token) usedBy(p presented) bool {
	for _, use := range t.Uses {
		if use.KeySHA256 == p.keySHA256 && use.Cluster == p.cluster {
			return true
		}
	}
	return false
}

// allows holds the policy against a use. A key that used the token before may
// repeat that, whatever happened to the token since: a lost reply costs nothing.
func (t *Token) allows(p presented, tokens *Tokens) error {
	if t.usedBy(p) {
		return nil
	}
	if !t.Policy.allowsName(p.cluster) {
		return refuse(reason.NameNotAllowed, "join token %q is not for a cluster named %q; ask the hub's admin for one that is", t.ID, p.cluster)
	}
	if !t.Policy.allowsSource(p.source) {
		return refuse(reason.InvalidToken, "join token %q may not be used from %s", t.ID, p.source)
	}
	if !tokens.clock.Now().Before(t.Expires) {
		return refuse(reason.TokenExpired, "join token %q expired at %s; ask the hub's admin for a new one", t.ID, t.Expires.Format("2006-01-02 15:04:05 MST"))
	}
	if t.UsesLeft() == 0 {
		return refuse(reason.TokenUsed, "join token %q was used by another key already; if that was not you, tell the hub's admin at once, and ask for a new token", t.ID)
	}
	return nil
}

func (p Policy) allowsName(cluster string) bool {
	if p.ClusterName != "" {
		return p.ClusterName == cluster
	}
	ok, err := path.Match(p.NamePattern, cluster)
	return ok && err == nil
}

func (p Policy) allowsSource(source netip.Addr) bool {
	for _, network := range p.SourceCIDRs {
		if network.Contains(source.Unmap()) {
			return true
		}
	}
	return len(p.SourceCIDRs) == 0
}

func isReason(err error, why string) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Reason == why
}
