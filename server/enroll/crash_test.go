// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll_test

import (
	"context"
	"errors"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/server/enroll"
)

const (
	wait = time.Minute
	tick = 20 * time.Millisecond
)

var errCrashed = errors.New("crashed")

// writeBudget lets so many creates and updates through and then none, as if the
// process had died.
type writeBudget struct {
	mu   sync.Mutex
	left int
}

func (b *writeBudget) spend() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == 0 {
		return errCrashed
	}
	b.left--
	return nil
}

func (b *writeBudget) wrap(c client.Client) client.Client { return &dyingClient{Client: c, budget: b} }

type dyingClient struct {
	client.Client
	budget *writeBudget
}

func (d *dyingClient) Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error {
	if err := d.budget.spend(); err != nil {
		return err
	}
	return d.Client.Create(ctx, obj, opts...)
}

func (d *dyingClient) Update(ctx context.Context, obj client.Object, opts ...client.UpdateOption) error {
	if err := d.budget.spend(); err != nil {
		return err
	}
	return d.Client.Update(ctx, obj, opts...)
}

func newCSR() *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{}
}

func enrollIs(err error, why string) bool { return errors.Is(err, &enroll.Error{Reason: why}) }
