// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// maxPoll caps a long poll, below the idle timeout of common load balancers.
const maxPoll = 55 * time.Second

// Get answers the holder of the key that enrolled: proof is pki.Prove over id
// and a challenge that the hub gave at most two minutes ago. It returns as soon
// as there is a certificate or the enrollment has ended, else after wait (at
// most 55 s) with the state as it is. A newer Get for the same enrollment ends
// an older one.
func (s *Service) Get(ctx context.Context, id string, challenge, proof []byte, wait time.Duration) (Enrollment, error) {
	if err := checkChallenge(s.cfg.HMACKey, id, challenge, s.cfg.Clock.Now()); err != nil {
		return Enrollment{}, err
	}
	enrollment, err := s.watch.get(ctx, id)
	if apierrors.IsNotFound(err) {
		enrollment, err = s.read(ctx, id) // the cache may be behind
	}
	if apierrors.IsNotFound(err) {
		return Enrollment{}, refuse(reason.EnrollmentNotFound, "enrollment %q is gone; make a new key and enroll again with a new join token", id)
	}
	if err != nil {
		return Enrollment{}, err
	}
	key, err := enrollment.Spec.PublicKeyDER()
	if err != nil {
		return Enrollment{}, fmt.Errorf("the public key in ClusterEnrollment %q: %w", id, err)
	}
	if err := pki.VerifyProof(key, id, challenge, proof); err != nil {
		return Enrollment{}, &Error{Reason: reason.InvalidProof, Message: "the proof does not match the key that enrolled", Err: err}
	}
	ctx, done := s.onlyPoll(ctx, id, min(wait, maxPoll))
	defer done()
	return s.await(ctx, enrollment, enrollment.Spec.KeySHA256)
}

// poll is one open long poll.
type poll struct{ cancel context.CancelFunc }

// onlyPoll bounds ctx and makes it the enrollment's one open poll.
func (s *Service) onlyPoll(ctx context.Context, id string, wait time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, max(wait, 0))
	mine := &poll{cancel: cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	if older, ok := s.polls[id]; ok {
		older.cancel()
	}
	s.polls[id] = mine
	return ctx, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.polls[id] == mine {
			delete(s.polls, id)
		}
	}
}

// await waits until the key has a certificate or the enrollment has ended, and
// answers; when ctx ends first it answers with what is known.
func (s *Service) await(ctx context.Context, e *v1alpha1.ClusterEnrollment, keySHA256 string) (Enrollment, error) {
	decided := func(e *v1alpha1.ClusterEnrollment) bool {
		return e.Status.State.Final() || certificateOf(e, keySHA256) != nil
	}
	if decided(e) {
		return s.answer(e, certificateOf(e, keySHA256)), nil
	}
	last, err := s.watch.wait(ctx, e.Name, decided)
	if apierrors.IsNotFound(err) {
		return Enrollment{}, refuse(reason.EnrollmentNotFound, "enrollment %q is gone; make a new key and enroll again with a new join token", e.Name)
	}
	if err != nil && ctx.Err() == nil {
		return Enrollment{}, err
	}
	if last == nil {
		last = e
	}
	return s.answer(last, certificateOf(last, keySHA256)), nil
}

// Agents renew between these parts of a certificate's life.
const (
	renewFrom  = 0.6
	renewUntil = 0.7
)

// renewAfter picks a time at 60 to 70 % of the certificate's life, so that a
// fleet that enrolled together does not renew together.
func renewAfter(chain []byte, now time.Time) time.Time {
	certs, err := pki.ParseCertificates(chain)
	if err != nil {
		return now
	}
	start := certs[0].NotBefore.Add(pki.Backdate)
	if !start.Before(certs[0].NotAfter) {
		start = certs[0].NotBefore
	}
	life := certs[0].NotAfter.Sub(start)
	share := renewFrom + (renewUntil-renewFrom)*rand.Float64() //nolint:gosec // jitter, not a secret
	return start.Add(time.Duration(share * float64(life)))
}
