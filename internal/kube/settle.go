// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// ConflictDelay gives a cache the time to see what a write has lost to.
const ConflictDelay = 50 * time.Millisecond

// Settle is what a controller returns after a round: another one after that time,
// 0 for none, or its error. A conflict is a quiet second look instead of an error.
func Settle(again time.Duration, err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: ConflictDelay}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: again}, nil
}
