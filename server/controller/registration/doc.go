// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package registration turns an accepted ManagedCluster into a namespace with
// access rights, takes those away again, and leads each ClusterEnrollment from
// the request to its certificate and to its end.
//
// Two controllers live here. "registration" (cluster.go) looks at one
// ManagedCluster: accept, deny, remove. "enrollment" (enrollment.go) looks at all
// ClusterEnrollments of one cluster together with its ManagedCluster and its
// CertificateSigningRequests, in phases: lifecycle.go decides and does nothing
// else; autoaccept.go, approve.go, sign.go and discard.go do one thing each; one
// status patch ends the pass.
//
// Everything comes in and goes out as API objects. The package knows no
// sessions, no agents' messages and no private keys; the signer is given to it.
package registration
