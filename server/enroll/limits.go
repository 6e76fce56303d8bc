// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/lru"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// Limits bound what requests to join can cost. Zero means the default, a
// negative number means no limit. Each replica counts for itself, except for
// Pending, which counts what is recorded.
type Limits struct {
	// Pending is how many enrollments may wait at once (500). More are refused;
	// those that wait are never evicted.
	Pending int
	// SourcePerMinute is per source address (5).
	SourcePerMinute int
	// TokenFailuresPerHour is per token id (10).
	TokenFailuresPerHour int
	// GlobalPerSecond is for all requests together (50).
	GlobalPerSecond int
	// RenewalsPerMinute is per cluster (5). Certificates that live for less than
	// some minutes need more.
	RenewalsPerMinute int
}

const (
	defaultPending         = 500
	defaultSourcePerMinute = 5
	defaultFailuresPerHour = 10
	defaultGlobalPerSecond = 50
	defaultRenewals        = 5

	repeatsOfSource = 4 // as many times may a key repeat its request as a source may make new ones

	trackedKeys = 1 << 16 // addresses and ids that are remembered
	ipv6Prefix  = 64      // one site has as many addresses as it likes below that
)

type limiters struct {
	pending  int
	global   *rate.Limiter
	source   *buckets
	failures *buckets
	renewals *buckets
	repeats  *buckets // per key that has an enrollment
}

func newLimiters(l Limits) *limiters {
	value := func(configured, standard int) int {
		if configured == 0 {
			return standard
		}
		return configured
	}
	global := value(l.GlobalPerSecond, defaultGlobalPerSecond)
	source := value(l.SourcePerMinute, defaultSourcePerMinute)
	return &limiters{
		pending:  value(l.Pending, defaultPending),
		global:   rate.NewLimiter(perInterval(global, time.Second), global),
		source:   newBuckets(source, time.Minute),
		repeats:  newBuckets(repeatsOfSource*source, time.Minute),
		failures: newBuckets(value(l.TokenFailuresPerHour, defaultFailuresPerHour), time.Hour),
		renewals: newBuckets(value(l.RenewalsPerMinute, defaultRenewals), time.Minute),
	}
}

func perInterval(n int, interval time.Duration) rate.Limit {
	if n < 0 {
		return rate.Inf
	}
	return rate.Every(interval / time.Duration(n))
}

// buckets is one token bucket per key, for the keys seen last.
type buckets struct {
	mu    sync.Mutex
	keys  *lru.Cache
	limit rate.Limit
	burst int
}

func newBuckets(n int, interval time.Duration) *buckets {
	return &buckets{keys: lru.New(trackedKeys), limit: perInterval(n, interval), burst: n}
}

func (b *buckets) of(key string) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known, ok := b.keys.Get(key); ok {
		if limiter, ok := known.(*rate.Limiter); ok {
			return limiter
		}
	}
	limiter := rate.NewLimiter(b.limit, b.burst)
	b.keys.Add(key, limiter)
	return limiter
}

// spend takes one from the key's bucket, or says how long until there is one.
func spend(limiter *rate.Limiter, now time.Time) error {
	if limiter.AllowN(now, 1) {
		return nil
	}
	return limited(limiter, now)
}

func limited(limiter *rate.Limiter, now time.Time) error {
	missing := 1 - limiter.TokensAt(now)
	wait := time.Duration(missing / float64(limiter.Limit()) * float64(time.Second))
	refusal := refuse(reason.RateLimited, "too many requests; try again in %v", wait.Round(time.Second))
	refusal.RetryAfter = max(wait, time.Second)
	return refusal
}

// checkFailures refuses a token id with too many failures lately.
func (l *limiters) checkFailures(id string, now time.Time) error {
	limiter := l.failures.of(id)
	if limiter.Limit() == rate.Inf || limiter.TokensAt(now) >= 1 {
		return nil
	}
	return limited(limiter, now)
}

func (l *limiters) failed(id string, now time.Time) { l.failures.of(id).AllowN(now, 1) }

func sourceKey(source netip.Addr) string {
	source = source.Unmap().WithZone("")
	if source.Is6() {
		if network, err := source.Prefix(ipv6Prefix); err == nil {
			return network.String()
		}
	}
	return source.String()
}
