// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package taint keeps the taints of clusters by their health: unreachable while
// ManagedClusterConditionAvailable is missing or Unknown, unavailable while it is
// False, neither while it is True.
//
// ManagedClusters come in; their spec.taints go out, with an event for each
// change. Why a cluster is available or not is unknown here. Taints of others
// are not touched.
package taint
