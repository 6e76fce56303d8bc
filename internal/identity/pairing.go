// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// PairingCode is what both admins compare before a cluster is accepted: 60
// bits of SHA-256 over the enrolling public key (SPKI, DER), the cluster name
// and the hub-id, as three groups of four base32 characters. Hub and agent each
// compute it; neither believes the other's (PROTOCOL c9).
func PairingCode(spki []byte, cluster, hubID string) string {
	h := sha256.New()
	for _, part := range [][]byte{spki, []byte(cluster), []byte(hubID)} {
		sum := sha256.Sum256(part) // fixed length: no two splits give the same bytes
		h.Write(sum[:])
	}
	code := base32.StdEncoding.EncodeToString(h.Sum(nil))[:12]
	return code[:4] + "-" + code[4:8] + "-" + code[8:]
}

// NormalizePairingCode makes a code as typed by a person comparable: spaces
// and dashes are dropped and letters are upper-cased. The result of a code that
// has not 12 characters is empty.
func NormalizePairingCode(typed string) string {
	code := strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(strings.TrimSpace(typed)))
	if len(code) != 12 {
		return ""
	}
	return code[:4] + "-" + code[4:8] + "-" + code[8:]
}

// EnrollmentName names the ClusterEnrollment, and the CSR, of one key of one
// cluster. Cluster names are at most 63 characters, so it is always valid.
func EnrollmentName(cluster, pairingCode string) string {
	return cluster + "-" + strings.ToLower(pairingCode)
}

// LeaseLabel tells the hub's Leases apart: who holds a cluster's session, and
// which replica is alive.
const (
	LeaseLabel         = "fairlead.dev/lease"
	LeaseOfSession     = "session"
	LeaseOfReplica     = "replica"
	ReplicaLeasePrefix = "replica-"
)

// SessionLeaseName names the Lease that says who holds a cluster's session.
func SessionLeaseName(cluster string) string { return "session-" + cluster }
