// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"time"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// How long the agent waits (PROTOCOL c5). A hub may ask for other times within
// these bounds.
const (
	defaultBase   = time.Second
	defaultMax    = time.Minute
	defaultSpread = 2 * time.Second
	capMax        = 5 * time.Minute
	capSpread     = 10 * time.Minute
	capRetryInfo  = 5 * time.Minute

	refusedWait    = 5 * time.Minute  // give or take half
	tooOldWait     = 10 * time.Minute // give or take half
	supersededWait = time.Minute      // give or take half: another instance is at work

	// stableAfter is how long a session lasts that makes the next loss the first
	// one again; a hub that welcomes and then ends at once is backed away from.
	stableAfter = 10 * time.Second
)

// backoff decides how long to wait before the next attempt.
type backoff struct {
	base, max, spread time.Duration
	failures          int  // in a row
	lost              bool // a stable session was lost and nothing tried since
	random            func() float64
}

func newBackoff(random func() float64) *backoff {
	return &backoff{base: defaultBase, max: defaultMax, spread: defaultSpread, random: random}
}

// policy takes over what the hub asks for, within bounds.
func (b *backoff) policy(p *agentv1.ReconnectPolicy) {
	if p == nil {
		return
	}
	b.base = bounded(p.GetBase().AsDuration(), defaultBase, capMax)
	b.max = max(b.base, bounded(p.GetMax().AsDuration(), defaultMax, capMax))
	b.spread = bounded(p.GetSpread().AsDuration(), defaultSpread, capSpread)
}

func bounded(asked, otherwise, most time.Duration) time.Duration {
	if asked <= 0 {
		return otherwise
	}
	return min(asked, most)
}

// after notes the end of a session that lasted that long.
func (b *backoff) after(lasted time.Duration) {
	if lasted >= stableAfter {
		b.failures, b.lost = 0, true
	}
}

// next is how long to wait after that end.
func (b *backoff) next(why *Ended) time.Duration {
	switch why.Reason {
	case reason.ProtocolTooOld:
		return b.about(tooOldWait)
	case reason.Superseded:
		return b.about(supersededWait)
	case reason.PermissionDenied, reason.Unauthenticated, reason.UnknownCluster, reason.ClusterRemoved, reason.NotAccepted,
		reason.Revoked, reason.UIDMismatch, reason.SerialMismatch, reason.CertificateClone, reason.DuplicateCluster, reason.CertificateExpired, reasonOtherHub:
		return max(b.about(refusedWait), min(why.RetryAfter, capRetryInfo))
	}
	floor := min(max(why.RetryAfter, 0), capRetryInfo)
	if b.lost {
		b.lost = false
		return floor + b.upTo(b.spread)
	}
	b.failures++
	limit := b.max
	if shift := b.failures; shift < 16 {
		limit = min(b.max, b.base<<(shift-1))
	}
	return floor + b.upTo(limit)
}

func (b *backoff) upTo(d time.Duration) time.Duration { return time.Duration(b.random() * float64(d)) }

// about is d, give or take half.
func (b *backoff) about(d time.Duration) time.Duration { return d/2 + b.upTo(d) }
