// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/wire/reason"
)

// ClusterEnrollment records one key with which a cluster asked to join the
// hub, from the request to the last certificate. Its name is also the name of
// the CertificateSigningRequest that shows it to people. Only the hub writes
// it; people read it, and decide on the ManagedCluster and on the CSR.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=clusterenrollments,singular=clusterenrollment,scope=Cluster,shortName=cenr
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterName`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Pairing Code",type=string,JSONPath=`.spec.pairingCode`
// +kubebuilder:printcolumn:name="Certificate Until",type=date,JSONPath=`.status.current.notAfter`,priority=1
// +kubebuilder:printcolumn:name="Accepted By",type=string,JSONPath=`.status.acceptedBy`,priority=1
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.sourceAddress`,priority=1
// +kubebuilder:printcolumn:name="Agent Version",type=string,JSONPath=`.spec.agentVersion`,priority=1
// +kubebuilder:printcolumn:name="Token",type=string,JSONPath=`.spec.tokenID`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterEnrollment struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec holds the facts of the request. It never changes.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the facts of an enrollment never change; the agent enrolls again instead"
	Spec ClusterEnrollmentSpec `json:"spec"`

	// status holds what became of the request.
	// +optional
	// +kubebuilder:default={state: Pending}
	Status ClusterEnrollmentStatus `json:"status,omitempty"`
}

// ClusterEnrollmentList is a list of ClusterEnrollments.
//
// +kubebuilder:object:root=true
type ClusterEnrollmentList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the enrollments, in no promised order.
	Items []ClusterEnrollment `json:"items"`
}

// ClusterEnrollmentSpec holds the facts of an enrollment request.
type ClusterEnrollmentSpec struct {
	// clusterName is the name that the agent asked for: an RFC 1123 label, and
	// the name of the ManagedCluster.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	ClusterName string `json:"clusterName"`

	// hubID is the id of the hub that took the request.
	// +required
	// +kubebuilder:validation:MinLength=1
	HubID string `json:"hubID"`

	// managedClusterUID is the UID of the ManagedCluster of that name at the
	// time of the request. Certificates are bound to it.
	// +required
	// +kubebuilder:validation:MinLength=1
	ManagedClusterUID string `json:"managedClusterUID"`

	// agentName is the agent part of the identity, the last part of the
	// certificate's common name.
	// +required
	// +kubebuilder:validation:MinLength=1
	AgentName string `json:"agentName"`

	// keySHA256 is the SHA-256 of the public key (DER SubjectPublicKeyInfo) that
	// enrolled, in lower-case hex.
	// +required
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	KeySHA256 string `json:"keySHA256"`

	// publicKey is that key itself, the DER SubjectPublicKeyInfo in base64: an
	// agent proves with it that it made the request, also when the CSR is long
	// gone. (A string, since the apiserver's rules cannot compare all byte fields.)
	// +required
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9+/]+=*$`
	PublicKey string `json:"publicKey"`

	// pairingCode is shown on both sides; a person compares it before accepting.
	// +required
	// +kubebuilder:validation:MinLength=1
	PairingCode string `json:"pairingCode"`

	// csrName is the CertificateSigningRequest of the first certificate.
	// +required
	// +kubebuilder:validation:MinLength=1
	CSRName string `json:"csrName"`

	// clusterFingerprint is the UID of the spoke's kube-system namespace.
	// +optional
	ClusterFingerprint string `json:"clusterFingerprint,omitempty"`

	// agentID names the installation of the agent.
	// +optional
	AgentID string `json:"agentID,omitempty"`

	// agentVersion is the agent's version at the time of the request.
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`

	// sourceAddress is the address from which the request came.
	// +optional
	SourceAddress string `json:"sourceAddress,omitempty"`

	// tokenID names the join token that let the request in.
	// +optional
	TokenID string `json:"tokenID,omitempty"`

	// autoAccept is set when the join token allows acceptance without a person
	// comparing the pairing code.
	// +optional
	AutoAccept *AutoAccept `json:"autoAccept,omitempty"`

	// replacesIssued is set when a re-enroll token let in a cluster that had been
	// issued a certificate before. First use of the new one revokes the others.
	// +optional
	ReplacesIssued bool `json:"replacesIssued,omitempty"`

	// madeManagedCluster is true when the hub made the ManagedCluster for this
	// request; it is deleted again on denial or expiry if nobody touched it.
	// +optional
	MadeManagedCluster bool `json:"madeManagedCluster,omitempty"`
}

// AutoAccept says on whose authority an enrollment is accepted by itself.
type AutoAccept struct {
	// by is the person who made the join token.
	// +required
	By string `json:"by"`
}

// ClusterEnrollmentStatus holds what became of an enrollment request.
type ClusterEnrollmentStatus struct {
	// state is where the enrollment stands. A new one is Pending without a
	// second write.
	// +optional
	// +kubebuilder:default=Pending
	State EnrollmentState `json:"state,omitempty"`

	// reason is a CamelCase or UPPER_SNAKE word for the last change of state.
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says in words why the state is what it is.
	// +optional
	Message string `json:"message,omitempty"`

	// lastTransitionTime is when the state last changed.
	// +optional
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`

	// acceptedBy is who accepted: a person, or the maker of an auto-accept token.
	// +optional
	AcceptedBy string `json:"acceptedBy,omitempty"`

	// current is the certificate in use.
	// +optional
	Current *Certificate `json:"current,omitempty"`

	// next is the certificate of a renewal that has not been used yet. Its first
	// use makes it the current one. Until it is signed it has no serial.
	// +optional
	Next *Certificate `json:"next,omitempty"`

	// revokedSerials are serial numbers that are refused whatever else is true.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	RevokedSerials []string `json:"revokedSerials,omitempty"`

	// trustBundleVersion is the last version of the hub's trust bundle that the
	// agent has confirmed.
	// +optional
	TrustBundleVersion int64 `json:"trustBundleVersion,omitempty"`

	// clusterRemoved is set when the ManagedCluster of this enrollment was seen
	// with a deletion timestamp, that is, when it was removed on purpose.
	// +optional
	ClusterRemoved *metav1.Time `json:"clusterRemoved,omitempty"`

	// conditions are findings that can stand beside each other.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Certificate is one certificate of an enrollment, or the request for one.
type Certificate struct {
	// keySHA256 is the SHA-256 of its public key, in lower-case hex.
	// +required
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	KeySHA256 string `json:"keySHA256"`

	// csrName is the CertificateSigningRequest it came from.
	// +required
	CSRName string `json:"csrName"`

	// serial is its serial number in lower-case hex; empty until it is signed.
	// +optional
	Serial string `json:"serial,omitempty"`

	// notAfter is when it expires.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`

	// chain is the certificate and its issuers, leaf first, in PEM.
	// +optional
	Chain []byte `json:"chain,omitempty"`
}

// EnrollmentState is where an enrollment stands.
//
// +kubebuilder:validation:Enum=Pending;Accepted;Issued;Active;Denied;Expired;Detached;Revoked
type EnrollmentState string

// The states of an enrollment, in the order of a happy life, then its ends.
const (
	// StatePending waits for a person.
	StatePending EnrollmentState = "Pending"
	// StateAccepted waits for the signer.
	StateAccepted EnrollmentState = "Accepted"
	// StateIssued has a certificate that was never used.
	StateIssued EnrollmentState = "Issued"
	// StateActive has a certificate that was used.
	StateActive EnrollmentState = "Active"
	// StateDenied was refused by a person or by the signer.
	StateDenied EnrollmentState = "Denied"
	// StateExpired was not decided, or not used, in time.
	StateExpired EnrollmentState = "Expired"
	// StateDetached was ended by the spoke.
	StateDetached EnrollmentState = "Detached"
	// StateRevoked was ended by the hub.
	StateRevoked EnrollmentState = "Revoked"
)

// ConditionAccepted on a ClusterEnrollment is True since it was accepted;
// whatever else waits for the same cluster is overtaken by that.
const ConditionAccepted = "Accepted"

// Annotations on objects that belong to an enrollment. (ClusterEnrollments and
// their CertificateSigningRequests also have OCM's label with the cluster name,
// identity.ClusterNameLabel.)
const (
	// AnnotationEnrollment names the ClusterEnrollment of a
	// CertificateSigningRequest. It is a hint to find it by, never a proof.
	AnnotationEnrollment = "fairlead.dev/enrollment"
	// AnnotationMadeBy names, on a ManagedCluster that the hub made for an
	// enrollment, that enrollment.
	AnnotationMadeBy = "fairlead.dev/made-by-enrollment"
	// AnnotationMadeWithLabels is on a ManagedCluster that the hub made with labels
	// of a join token: which, as a selector (a=b,c=d).
	AnnotationMadeWithLabels = "fairlead.dev/made-with-labels"
	// AnnotationDecidedBy names, on a ClusterEnrollment, who accepted or denied it.
	AnnotationDecidedBy = "fairlead.dev/decided-by"
)

// Final says whether the state can no longer lead to a usable certificate.
func (s EnrollmentState) Final() bool {
	switch s {
	case StateDenied, StateExpired, StateDetached, StateRevoked:
		return true
	case StatePending, StateAccepted, StateIssued, StateActive:
		return false
	}
	return false
}

// PublicKeyDER returns the DER SubjectPublicKeyInfo of the key that enrolled.
func (s *ClusterEnrollmentSpec) PublicKeyDER() ([]byte, error) {
	return base64.StdEncoding.DecodeString(s.PublicKey)
}

// SetPublicKey records a key (DER SubjectPublicKeyInfo) and its hash.
func (s *ClusterEnrollmentSpec) SetPublicKey(spki []byte) {
	sum := sha256.Sum256(spki)
	s.PublicKey, s.KeySHA256 = base64.StdEncoding.EncodeToString(spki), hex.EncodeToString(sum[:])
}

// ReasonCertificateExpired is the reason of state Expired where a certificate
// that was in use expired.
const ReasonCertificateExpired = "CertificateExpired"

// OutOfTime says whether the enrollment is over only because its certificate
// was not renewed in time. Where a clock was wrong it comes back.
func (e *ClusterEnrollment) OutOfTime() bool {
	return e.Status.State == StateExpired && e.Status.Reason == ReasonCertificateExpired
}

// Cloned says whether the enrollment is out of use until a person says which of
// two holders of its certificates is the agent.
func (e *ClusterEnrollment) Cloned() bool {
	return e.Status.State == StateRevoked && e.Status.Reason == reason.CertificateClone
}

// EverIssued says whether a certificate was ever issued to this enrollment.
func (e *ClusterEnrollment) EverIssued() bool {
	return e.Status.Current != nil && e.Status.Current.Serial != ""
}

// CertificateBySerial returns the current or the next certificate if it has
// that serial and is not revoked, and nil otherwise.
func (e *ClusterEnrollment) CertificateBySerial(serial string) *Certificate {
	if slices.Contains(e.Status.RevokedSerials, serial) {
		return nil
	}
	for _, c := range []*Certificate{e.Status.Current, e.Status.Next} {
		if c != nil && c.Serial != "" && c.Serial == serial {
			return c
		}
	}
	return nil
}

// AwaitsKey says whether a certificate for the key with that SHA-256 (hex) may
// be signed for this enrollment: its own key while nothing was issued, or the
// key of a recorded renewal that has no certificate yet.
func (e *ClusterEnrollment) AwaitsKey(keySHA256 string) bool {
	if e.Status.State.Final() {
		return false
	}
	if !e.EverIssued() {
		return e.Spec.KeySHA256 == keySHA256
	}
	next := e.Status.Next
	return next != nil && next.Serial == "" && next.KeySHA256 == keySHA256
}

// SetState moves the enrollment to state and notes when and why. It changes
// only the object in memory; lastTransitionTime moves only with the state.
func (e *ClusterEnrollment) SetState(state EnrollmentState, reason, message string, now metav1.Time) {
	if e.Status.State != state {
		e.Status.LastTransitionTime = &now
	}
	e.Status.State, e.Status.Reason, e.Status.Message = state, reason, message
}
