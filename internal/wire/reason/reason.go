// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reason lists the stable, machine-readable reasons that Fairlead puts
// into errors (google.rpc.ErrorInfo.reason), acks, conditions and logs. Each is
// documented, with what to do about it, in docs/errors.md. A reason is never
// renamed once released.
package reason

// Domain is the ErrorInfo domain of every reason in this package.
const Domain = "fairlead.dev"

// Who may connect.
const (
	UnknownCluster   = "UNKNOWN_CLUSTER"
	ClusterRemoved   = "CLUSTER_REMOVED"
	NotAccepted      = "NOT_ACCEPTED"
	Revoked          = "REVOKED"
	UIDMismatch      = "UID_MISMATCH"
	SerialMismatch   = "SERIAL_MISMATCH"
	CertificateError = "CERTIFICATE_INVALID"
	CertificateClone = "CERTIFICATE_CLONED"
	ClockSkew        = "CLOCK_SKEW"
	ClusterConnected = "CLUSTER_CONNECTED"
	ConsentWithdrawn = "CONSENT_WITHDRAWN"
	DuplicateCluster = "DUPLICATE_CLUSTER"
	AgentFlapping    = "AGENT_FLAPPING"
	PermissionDenied = "PERMISSION_DENIED"
	Unauthenticated  = "UNAUTHENTICATED"
)

// Enrollment.
const (
	InvalidJoinString   = "INVALID_JOIN_STRING"
	HubCAMismatch       = "HUB_CA_MISMATCH"
	InvalidToken        = "INVALID_TOKEN"
	TokenExpired        = "TOKEN_EXPIRED"
	TokenUsed           = "TOKEN_USED"
	NameNotAllowed      = "NAME_NOT_ALLOWED"
	InvalidName         = "INVALID_NAME"
	InvalidCSR          = "INVALID_CSR"
	ClusterExists       = "CLUSTER_EXISTS"
	PairingCodeMismatch = "PAIRING_CODE_MISMATCH"
	TooManyPending      = "TOO_MANY_PENDING"
	RateLimited         = "RATE_LIMITED"
	EnrollmentNotFound  = "ENROLLMENT_NOT_FOUND"
	EnrollmentEnded     = "ENROLLMENT_ENDED"
	InvalidProof        = "INVALID_PROOF"
)

// What is on the way to the hub.
const (
	ProxyUnreachable  = "PROXY_UNREACHABLE"
	ProxyTLS          = "PROXY_TLS"
	ProxyAuthRequired = "PROXY_AUTH_REQUIRED"
	ProxyRefused      = "PROXY_REFUSED"
	TLSTerminated     = "TLS_TERMINATED"
)

// How a session ends.
const (
	Superseded         = "SUPERSEDED"
	Fenced             = "FENCED"
	Kicked             = "KICKED"
	SlowConsumer       = "SLOW_CONSUMER"
	LivenessLost       = "LIVENESS_LOST"
	CertificateExpired = "CERTIFICATE_EXPIRED"
	Draining           = "DRAINING"
	HubStarting        = "HUB_STARTING"
	HubRestored        = "HUB_RESTORED"
	HubOverloaded      = "HUB_OVERLOADED"
	ReplicaSilent      = "REPLICA_SILENT"
	ApiserverLost      = "HUB_APISERVER_UNREACHABLE"
	ProtocolTooOld     = "PROTOCOL_TOO_OLD"
	ProtocolError      = "PROTOCOL_ERROR"
	Unsupported        = "UNSUPPORTED"
)

// External schedulers.
const (
	TermHeld           = "TERM_HELD"
	StaleGeneration    = "STALE_GENERATION"
	OtherScheduler     = "OTHER_SCHEDULER"
	SchedulingDisabled = "SCHEDULING_DISABLED"
)

// What is wrong with one object.
const (
	ObjectTooLarge  = "OBJECT_TOO_LARGE"
	StatusTooLarge  = "STATUS_TOO_LARGE"
	Undecodable     = "UNDECODABLE"
	DigestMismatch  = "DIGEST_MISMATCH"
	InvalidArgument = "INVALID_ARGUMENT"
	NotFound        = "NOT_FOUND"
	HeldOnSpoke     = "HELD_ON_SPOKE"
	Conflict        = "CONFLICT"
	Internal        = "INTERNAL"
)
