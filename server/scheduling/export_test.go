// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import "k8s.io/apimachinery/pkg/types"

// SetBudget makes the budget of each placement smaller.
func (w *World) SetBudget(budget int64) { w.budget = budget }

// Spent is what the expressions of a placement cost, as far as that is known.
func (w *World) Spent(key types.NamespacedName) int64 { return w.places[key].spent }
