// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
)

// request is a CertificateSigningRequest that the hub itself made for exactly
// the key, cluster and agent of an enrollment. No other is ever looked at, be it
// approved or not. All methods work on nil, which is no request at all.
type request struct {
	object *certificatesv1.CertificateSigningRequest
	parsed *x509.CertificateRequest
	// broken says which rule for requests it breaks; parsed is nil then.
	broken error
}

// loadRequests finds the CSRs that the record names. (Annotations and labels
// on CSRs wake this controller; they prove nothing.)
func (p *pass) loadRequests(ctx context.Context) error {
	if ended(p.e) {
		return nil
	}
	var err error
	if !p.e.EverIssued() {
		if p.first, err = p.request(ctx, p.client, p.e.Spec.CSRName, p.e.Spec.KeySHA256); err != nil {
			return err
		}
	}
	if next := p.e.Status.Next; next != nil && next.Serial == "" {
		p.renewal, err = p.request(ctx, p.client, next.CSRName, next.KeySHA256)
	}
	return err
}

func (p *pass) request(ctx context.Context, reader client.Reader, name, keySHA256 string) (*request, error) {
	object := &certificatesv1.CertificateSigningRequest{}
	err := reader.Get(ctx, client.ObjectKey{Name: name}, object)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // nil is no request
	}
	if err != nil {
		return nil, fmt.Errorf("reading CertificateSigningRequest %q: %w", name, err)
	}
	found, err := p.genuine(object, keySHA256)
	if err != nil {
		p.log.WarnContext(ctx, "a certificate request is not the hub's own and is ignored",
			"csr", name, "requester", object.Spec.Username, "cluster", p.e.Spec.ClusterName, "enrollment", p.e.Name, "error", err)
		return nil, nil //nolint:nilnil // nil is no request
	}
	return found, nil
}

// genuine checks that a CSR is what the hub made for this key of this
// enrollment: who asked (the apiserver fills that in), for which signer, which
// cluster, which agent, which key.
func (p *pass) genuine(object *certificatesv1.CertificateSigningRequest, keySHA256 string) (*request, error) {
	spec := &object.Spec
	switch {
	case spec.Username != p.cfg.requester():
		return nil, fmt.Errorf("requested by %q, want %q", spec.Username, p.cfg.requester())
	case spec.SignerName != identity.SignerName:
		return nil, fmt.Errorf("for signer %q, want %q", spec.SignerName, identity.SignerName)
	case object.Labels[identity.ClusterNameLabel] != p.e.Spec.ClusterName:
		return nil, fmt.Errorf("labelled for cluster %q, want %q", object.Labels[identity.ClusterNameLabel], p.e.Spec.ClusterName)
	}
	parsed, agent, broken := parse(spec)
	if broken != nil { // a request of the hub's that cannot be served is not a forgery
		return &request{object: object, broken: broken}, nil //nolint:nilerr // it is told to people instead
	}
	if agent.Cluster != p.e.Spec.ClusterName || agent.Name != p.e.Spec.AgentName {
		return nil, fmt.Errorf("its subject is %q, want %q", agent.User(), identity.User(p.e.Spec.ClusterName, p.e.Spec.AgentName))
	}
	if key := pki.KeySHA256(parsed.RawSubjectPublicKeyInfo); key != keySHA256 {
		return nil, fmt.Errorf("its key is %s, want %s", key, keySHA256)
	}
	return &request{object: object, parsed: parsed}, nil
}

// parse holds what is asked for against the rules for requests.
func parse(spec *certificatesv1.CertificateSigningRequestSpec) (*x509.CertificateRequest, identity.Agent, error) {
	der, err := pki.DecodeCSR(spec.Request)
	if err != nil {
		return nil, identity.Agent{}, err
	}
	parsed, agent, err := pki.ParseCSR(der)
	if err != nil {
		return nil, identity.Agent{}, err
	}
	return parsed, agent, clientUsages(spec.Usages)
}

func clientUsages(usages []certificatesv1.KeyUsage) error {
	allowed := []certificatesv1.KeyUsage{
		certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment,
	}
	for _, usage := range usages {
		if !slices.Contains(allowed, usage) {
			return &pki.CSRError{Problem: fmt.Sprintf("it asks for the usage %q", usage)}
		}
	}
	return nil
}

func (r *request) condition(kind certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	if r == nil {
		return nil
	}
	for i := range r.object.Status.Conditions {
		if c := &r.object.Status.Conditions[i]; c.Type == kind && c.Status != corev1.ConditionFalse {
			return c
		}
	}
	return nil
}

func (r *request) approved() bool {
	return r.condition(certificatesv1.CertificateApproved) != nil && r.denied() == nil
}

func (r *request) denied() *certificatesv1.CertificateSigningRequestCondition {
	return r.condition(certificatesv1.CertificateDenied)
}

func (r *request) failed() *certificatesv1.CertificateSigningRequestCondition {
	return r.condition(certificatesv1.CertificateFailed)
}

// invalid says which rule the request breaks.
func (r *request) invalid() error {
	if r == nil {
		return nil
	}
	return r.broken
}

// usable says whether the request may still lead to a certificate.
func (r *request) usable() bool {
	return r != nil && r.denied() == nil && r.failed() == nil && r.broken == nil
}

// undecided says whether nobody has said anything about a usable request.
func (r *request) undecided() bool { return r.usable() && !r.approved() }

func (r *request) approvedByHub() bool {
	c := r.condition(certificatesv1.CertificateApproved)
	return c != nil && c.Reason == reasonApprovedByToken
}

// agent is the identity that the enrollment's certificates carry.
func agent(e *v1alpha1.ClusterEnrollment) identity.Agent {
	return identity.Agent{
		Cluster: e.Spec.ClusterName, Name: e.Spec.AgentName, HubID: e.Spec.HubID, UID: e.Spec.ManagedClusterUID,
	}
}
