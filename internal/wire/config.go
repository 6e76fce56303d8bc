// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
)

// configUID is the UID of every ClusterConfig: there is one for each cluster, it
// is never recreated, and its content alone tells one from another.
const configUID = "cluster-config"

// ConfigKey is the key of the one object of KindClusterConfig that a cluster has.
func ConfigKey() Key { return Key{Kind: KindClusterConfig, Name: "cluster"} }

// ClusterConfig is what the hub wants of a spoke beside its works. The zero value
// asks for nothing: an agent that has acted on it need not keep it.
type ClusterConfig struct {
	// ManagedNamespaces are names, sorted, each once (RA-37).
	ManagedNamespaces []string `json:"managedNamespaces,omitempty"`
}

// IsZero tells a configuration that asks for nothing.
func (c ClusterConfig) IsZero() bool { return len(c.ManagedNamespaces) == 0 }

// Encode sorts the names and returns the configuration as it travels, with its
// revision.
func (c ClusterConfig) Encode() (Revision, []byte) {
	names := slices.Clone(c.ManagedNamespaces)
	slices.Sort(names)
	raw, err := json.Marshal(ClusterConfig{ManagedNamespaces: slices.Compact(names)})
	if err != nil {
		panic(err) //nolint:forbidigo // strings always encode
	}
	return Revision{UID: configUID, Digest: sha256.Sum256(raw), Size: uint64(len(raw))}, raw
}

// DecodeConfig reads what Encode made. Fields that this build does not know are
// ignored.
func DecodeConfig(raw []byte) (ClusterConfig, error) {
	var c ClusterConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return ClusterConfig{}, fmt.Errorf("reading a cluster's configuration: %w", err)
	}
	return c, nil
}
