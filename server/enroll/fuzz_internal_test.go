// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// FuzzToken presents any token for any cluster from anywhere. Only the very
// token is taken, for what it is for; everything else is refused with a reason
// that tells apart only what a holder of the token may know.
func FuzzToken(f *testing.F) {
	kube := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).Build()
	tokens := NewTokens(kube, "hub", clock.RealClock{})
	policy := Policy{NamePattern: "edge-*", MaxUses: 5, SourceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	token, secret, err := tokens.Create(f.Context(), policy, "fuzzer")
	require.NoError(f, err)
	f.Add("", "edge-1", "10.1.2.3")
	f.Add("x", "edge-1", "10.1.2.3")
	f.Add("", "hub", "::ffff:10.1.2.3")
	f.Add(".", "edge-", "")
	f.Add("../../secrets/x.y", "edge-1", "10.0.0.1")
	f.Fuzz(func(t *testing.T, more, cluster, from string) {
		source, _ := netip.ParseAddr(from)
		for _, shown := range []string{more, secret + more, more + secret, token.ID + "." + more, more + strings.TrimPrefix(secret, token.ID)} {
			got, err := tokens.check(t.Context(), presented{token: shown, cluster: cluster, keySHA256: "key", source: source})
			whole := shown == secret
			fits := policy.allowsName(cluster) && policy.allowsSource(source)
			require.Equal(t, whole && fits, err == nil, "%q for %q from %v: %v", shown, cluster, source, err)
			if err == nil {
				require.Equal(t, token.ID, got.ID)
				require.True(t, strings.HasPrefix(cluster, "edge-"))
				continue
			}
			var refused *Error
			require.ErrorAs(t, err, &refused)
			require.NotContains(t, err.Error(), strings.TrimPrefix(secret, token.ID+"."))
			if !whole {
				require.Equal(t, reason.InvalidToken, refused.Reason)
				require.NotContains(t, err.Error(), token.ID, "nobody learns which tokens there are")
			}
		}
	})
}

// FuzzPolicy makes tokens of any policy: one that is accepted can be stored, read
// again and used up; others are refused with a reason.
func FuzzPolicy(f *testing.F) {
	now := testingclock.NewFakePassiveClock(time.Unix(1e9, 0))
	f.Add("c1", "", int64(0), 0, "", false)
	f.Add("", "edge-*", int64(time.Hour), 3, "10.0.0.0/8", true)
	f.Add("", "[", int64(time.Minute), 1, "::/0", false)
	f.Add("c1", "c*", int64(-1), -1, "x", true)
	f.Fuzz(func(t *testing.T, cluster, pattern string, ttl int64, uses int, cidr string, again bool) {
		policy := Policy{ClusterName: cluster, NamePattern: strings.ToValidUTF8(pattern, "?"), TTL: time.Duration(ttl), MaxUses: uses, ReEnroll: again}
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			policy.SourceCIDRs = append(policy.SourceCIDRs, prefix)
		}
		kube := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).Build()
		tokens := NewTokens(kube, "hub", now)
		token, _, err := tokens.Create(t.Context(), policy, "fuzzer")
		if err != nil {
			var refused *Error
			require.ErrorAs(t, err, &refused)
			return
		}
		require.True(t, token.Expires.After(now.Now()))
		require.LessOrEqual(t, token.Expires.Sub(now.Now()), maxTTL)
		require.Positive(t, token.UsesLeft())
		list, err := tokens.List(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, token.Policy.NamePattern, list[0].Policy.NamePattern)
		require.Equal(t, token.Policy.ClusterName, list[0].Policy.ClusterName)
		require.Equal(t, token.Policy.SourceCIDRs, list[0].Policy.SourceCIDRs)
		require.Equal(t, token.UsesLeft(), list[0].UsesLeft())
		require.NoError(t, client.IgnoreNotFound(tokens.Revoke(t.Context(), token.ID)))
	})
}

// FuzzChallenge: only what the hub made for an enrollment, not long ago, passes.
func FuzzChallenge(f *testing.F) {
	key, now := []byte("key of all replicas"), time.Unix(1e9, 0)
	f.Add("e1", "e1", []byte{}, int64(0))
	f.Add("e1", "e2", newChallenge([]byte("another key"), "e1", now), int64(60))
	f.Add("a|1", "a", []byte("x"), int64(-40))
	f.Fuzz(func(t *testing.T, id, other string, made []byte, seconds int64) {
		at := now.Add(time.Duration(seconds%10_000) * time.Second)
		genuine := newChallenge(key, id, now)
		age := at.Sub(now)
		require.Equal(t, age <= challengeLife && age >= -challengeSkew, checkChallenge(key, id, genuine, at) == nil)
		require.Equal(t, id == other, checkChallenge(key, other, genuine, now) == nil, "it is for one enrollment")
		var refused *Error
		require.ErrorAs(t, checkChallenge(key, id, made, at), &refused)
		damaged := append([]byte{}, genuine...)
		damaged[int(uint64(seconds)%uint64(len(damaged)))] ^= 1
		require.ErrorAs(t, checkChallenge(key, id, damaged, now), &refused)
	})
}
