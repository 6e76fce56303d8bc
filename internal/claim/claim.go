// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package claim knows which names of ClusterClaims are reserved, how claims are
// ordered, and how large they may be. The agent chooses by it what to report, and
// the hub checks by it what it is told. Names come in, verdicts go out.
package claim

import (
	"cmp"
	"slices"
	"strings"

	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
)

// What every spoke claims by itself.
const (
	// ID is the cluster's own id.
	ID = "id.k8s.io"
	// Version is that of its Kubernetes.
	Version = "kubeversion.open-cluster-management.io"
)

// The CRD of ManagedCluster takes claims up to these sizes, in bytes.
const (
	MaxName  = 253
	MaxValue = 1024
)

// Reserved tells whether a name is one of OCM's reserved names, or ends in one of
// the reserved suffixes (RA-35).
func Reserved(name string, suffixes ...string) bool {
	return slices.Contains(clusterv1alpha1.ReservedClusterClaimNames[:], name) ||
		slices.ContainsFunc(suffixes, func(suffix string) bool {
			return suffix != "" && strings.HasSuffix(name, suffix)
		})
}

// Compare orders claims by name, OCM's reserved names first (RA-35).
func Compare(a, b string) int {
	rank := func(name string) int {
		if Reserved(name) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

// Fits tells whether a ManagedCluster can have the claim.
func Fits(name, value string) bool {
	return name != "" && len(name) <= MaxName && value != "" && len(value) <= MaxValue
}
