// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

// Scope is the right to act for one cluster. Its fields are unexported and
// only ScopeOf makes one, so that no code path can act on a cluster that a
// message merely names (PROTOCOL decision 7, T49). The zero Scope acts for no
// cluster.
type Scope struct {
	cluster string
	uid     string
}

// ScopeOf is called by the agent listener's identity interceptor alone, with
// the identity parsed from the verified client certificate and the UID of the
// ManagedCluster that this certificate is bound to.
func ScopeOf(verified Agent, managedClusterUID string) Scope {
	return Scope{cluster: verified.Cluster, uid: managedClusterUID}
}

// Cluster is the name of the ManagedCluster acted for; empty for the zero Scope.
func (s Scope) Cluster() string { return s.cluster }

// Namespace is the cluster's namespace on the hub.
func (s Scope) Namespace() string { return s.cluster }

// UID is the UID of the ManagedCluster acted for.
func (s Scope) UID() string { return s.uid }
