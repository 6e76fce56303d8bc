// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/wire"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// askTimeout bounds asking a hub for its time.
const askTimeout = 10 * time.Second

// skewed takes a hub's word that the agent's certificate is expired, which is also
// what TLS says of one that is not valid yet. If by this machine's clock it is
// neither, the clocks differ: then the reason is CLOCK_SKEW, with the offset, for
// which the hub is asked as nobody. Otherwise it is as it was.
func (l *Link) skewed(ctx context.Context, address string, config *tls.Config, why *Ended) *Ended {
	leaf := leafOf(config)
	now := time.Now()
	if why.Reason != reason.CertificateExpired || leaf == nil || !good(leaf, now) {
		return why
	}
	from, to := leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339)
	theirs, ours, err := l.hubTime(ctx, address, config)
	if err != nil {
		return &Ended{Reason: reason.ClockSkew, RetryAfter: why.RetryAfter, Err: fmt.Errorf(
			"by this machine's clock, %s, the agent's certificate is good, from %s to %s; by the hub's it is not, which is at least %s behind or at least %s ahead (it does not tell its time: %w): %w",
			now.UTC().Format(time.RFC3339), from, to, now.Sub(leaf.NotBefore).Round(time.Second), leaf.NotAfter.Sub(now).Round(time.Second), err, why.Err)}
	}
	if good(leaf, theirs) {
		return why // it is something else: an authority that has expired
	}
	offset, than := theirs.Sub(ours).Round(time.Second), "ahead of"
	if offset < 0 {
		than = "behind"
	}
	return &Ended{Reason: reason.ClockSkew, RetryAfter: why.RetryAfter, Err: fmt.Errorf(
		"the hub's clock is %s %s this machine's: it says %s, when the agent's certificate, good from %s to %s, is not: %w",
		offset.Abs(), than, theirs.UTC().Format(time.RFC3339), from, to, why.Err)}
}

// good tells whether it is within a certificate's time.
func good(cert *x509.Certificate, at time.Time) bool {
	return !at.Before(cert.NotBefore) && !at.After(cert.NotAfter)
}

// leafOf is the client certificate that a configuration has, or nil.
func leafOf(config *tls.Config) *x509.Certificate {
	if config.GetClientCertificate == nil {
		return nil
	}
	cert, err := config.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil {
		return nil
	}
	return cert.Leaf
}

// hubTime asks a hub for its time, without a certificate, and returns with it
// what this machine's clock said halfway.
func (l *Link) hubTime(ctx context.Context, address string, config *tls.Config) (theirs, ours time.Time, err error) {
	config = config.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	conn, err := dialer.NewWay(address, config, l.cfg.Dial).Client(grpc.WithDisableServiceConfig())
	if err != nil {
		return theirs, ours, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var header metadata.MD
	asked := time.Now()
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.Header(&header))
	told := header.Get(wire.TimeHeader)
	if len(told) != 1 {
		return theirs, ours, fmt.Errorf("its answer has %d headers %s (%v)", len(told), wire.TimeHeader, err) //nolint:errorlint // it may be nil
	}
	answered := time.Now()
	theirs, err = time.Parse(time.RFC3339Nano, told[0])
	return theirs, asked.Add(answered.Sub(asked) / 2), err
}
