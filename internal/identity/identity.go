// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package identity knows every name by which hub and spoke recognise each
// other: certificate subjects, groups, the SPIFFE URI, namespaces, object names
// and the pairing code. It parses and prints, and nothing else: no clock, no
// network, no Kubernetes client. A name that is not exactly well formed is an
// error; nothing here compares by prefix (CVE-2026-4740 is what happens then).
package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Well-known names of OCM that other tools read (ECOSYSTEM 1.1).
const (
	// HubNamespace is where the hub keeps its own objects by default.
	HubNamespace = "open-cluster-management-hub"
	// AgentNamespace is where the agent lives on a spoke by default.
	AgentNamespace = "open-cluster-management-agent"
	// GRPCServerServiceAccount is the identity that the hub writes with on
	// behalf of agents; OCM's add-on managers trust exactly this name.
	GRPCServerServiceAccount = "grpc-server-sa"
	// SignerName is the signer of cluster agents' certificates.
	SignerName = "open-cluster-management.io/grpc"
	// RegisterGroup has no kinds, only the subresources that rights are given on.
	RegisterGroup = "register.open-cluster-management.io"

	// ClusterNameLabel marks a cluster's namespace, its CSRs and RBAC.
	ClusterNameLabel = "open-cluster-management.io/cluster-name"
	// CSRUserAnnotation names the agent for which the hub made a CSR.
	CSRUserAnnotation = "open-cluster-management.io/csr-user"
	// ManagedClustersGroup is the optional second organization of an agent.
	ManagedClustersGroup = subjectPrefix + "managed-clusters"
	// ManifestWorkFinalizer keeps a ManifestWork until the spoke is clean.
	ManifestWorkFinalizer = "cluster.open-cluster-management.io/manifest-work-cleanup"
	// AppliedManifestWorkFinalizer keeps the spoke's inventory likewise.
	AppliedManifestWorkFinalizer = "cluster.open-cluster-management.io/applied-manifest-work-cleanup"
	// ManagedClusterFinalizer keeps an accepted ManagedCluster until the hub
	// has removed what it made for it (RC-06).
	ManagedClusterFinalizer = "cluster.open-cluster-management.io/api-resource-cleanup"
	// ResourceCleanupFinalizer keeps a ManagedCluster until its namespace is clean
	// (RC-66).
	ResourceCleanupFinalizer = "cluster.open-cluster-management.io/resource-cleanup"

	// ConditionDetached on a ManagedCluster is True while its spoke has left by
	// itself: its agent will not come back with what it had.
	ConditionDetached = "Detached"

	subjectPrefix = "system:open-cluster-management:"
)

// ErrMalformed is wrapped by every parse error of this package.
var ErrMalformed = errors.New("malformed identity")

// malformed is an ErrMalformed in words for whoever chose the name.
type malformed string

// Error implements error.
func (m malformed) Error() string { return string(m) }

// Unwrap says what kind of error it is.
func (malformed) Unwrap() error { return ErrMalformed }

// Agent is one cluster agent as its certificate names it. HubID and UID are
// empty when the certificate carries no URI SAN (an external signer that cannot
// copy it; PROTOCOL decision 6).
type Agent struct {
	Cluster string // ManagedCluster name, an RFC 1123 label
	Name    string // the agent's own name within the cluster
	HubID   string
	UID     string // ManagedCluster UID
}

// Group is the Kubernetes group (certificate organization) of a cluster.
func Group(cluster string) string { return subjectPrefix + cluster }

// User is the Kubernetes user (certificate common name) of an agent.
func User(cluster, agent string) string { return subjectPrefix + cluster + ":" + agent }

// Subject is the exact certificate subject of an agent (RA-07).
func Subject(cluster, agent string) pkix.Name {
	return pkix.Name{
		Organization: []string{Group(cluster), ManagedClustersGroup},
		CommonName:   User(cluster, agent),
	}
}

// URI is the SPIFFE URI SAN that binds the certificate to one ManagedCluster
// UID of one hub, so that a recreated cluster of the same name is another one.
func (a Agent) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: a.HubID, Path: "/cluster/" + a.Cluster + "/" + a.UID + "/agent/" + a.Name}
}

// User is the Kubernetes user name of the agent.
func (a Agent) User() string { return User(a.Cluster, a.Name) }

// Quoted prints a value that somebody else sent into an error, at most some 300
// characters of it: errors are read by people, and written to logs.
func Quoted(value string) string {
	const most = 300
	text := strconv.Quote(value)
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + `…"`
}

// ValidateClusterName reports why name cannot name a cluster: it has to be an
// RFC 1123 label of at most 63 characters, since it also names a namespace.
func ValidateClusterName(name string) error {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return malformed(fmt.Sprintf("cluster name %s is not an RFC 1123 label: lower-case letters, digits and '-', at most 63, no '-' at either end", Quoted(name)))
	}
	if name == strings.TrimPrefix(ManagedClustersGroup, subjectPrefix) {
		return malformed(fmt.Sprintf("cluster name %q is reserved for the group of all clusters", name))
	}
	return nil
}

// ValidateAgentName reports why name cannot name an agent: a DNS subdomain
// (letters, digits, '-' and '.'), so that no separator of ours fits into it.
func ValidateAgentName(name string) error {
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fmt.Errorf("%w: agent name %s: %s", ErrMalformed, Quoted(name), strings.Join(problems, "; "))
	}
	return nil
}

// ParseSubject reads an agent out of a certificate or CSR subject. Only the
// form that Subject prints is accepted, with or without the second
// organization, and nothing else may be in it.
func ParseSubject(subject pkix.Name) (Agent, error) {
	rest, ok := strings.CutPrefix(subject.CommonName, subjectPrefix)
	if !ok {
		return Agent{}, fmt.Errorf("%w: common name %s is not %s<cluster>:<agent>", ErrMalformed, Quoted(subject.CommonName), subjectPrefix)
	}
	cluster, name, ok := strings.Cut(rest, ":")
	if !ok {
		return Agent{}, fmt.Errorf("%w: common name %s names no agent", ErrMalformed, Quoted(subject.CommonName))
	}
	if err := errors.Join(ValidateClusterName(cluster), ValidateAgentName(name)); err != nil {
		return Agent{}, err
	}
	if err := checkOrganizations(subject.Organization, cluster); err != nil {
		return Agent{}, err
	}
	// Names has every attribute as parsed from DER; a subject built in memory has none.
	if n := len(subject.Names); n != 0 && n != 1+len(subject.Organization) {
		return Agent{}, fmt.Errorf("%w: subject %s has attributes besides CN and O", ErrMalformed, Quoted(subject.String()))
	}
	return Agent{Cluster: cluster, Name: name}, nil
}

func checkOrganizations(organizations []string, cluster string) error {
	others := slices.DeleteFunc(slices.Clone(organizations), func(o string) bool { return o == ManagedClustersGroup })
	if len(others) != 1 || others[0] != Group(cluster) || len(organizations) > 2 {
		return fmt.Errorf("%w: organizations %s: want %q and at most %q", ErrMalformed, Quoted(strings.Join(organizations, ", ")), Group(cluster), ManagedClustersGroup)
	}
	return nil
}

// ParseCertificate reads an agent out of a verified certificate. The caller
// has verified the chain; this checks that subject and URI SAN are exactly well
// formed and name the same agent, and that there is no other SAN.
func ParseCertificate(cert *x509.Certificate) (Agent, error) {
	agent, err := ParseSubject(cert.Subject)
	if err != nil {
		return Agent{}, err
	}
	if len(cert.DNSNames)+len(cert.EmailAddresses)+len(cert.IPAddresses) > 0 || len(cert.URIs) > 1 {
		return Agent{}, fmt.Errorf("%w: certificate of %s has subject alternative names besides one URI", ErrMalformed, Quoted(cert.Subject.CommonName))
	}
	if len(cert.URIs) == 0 {
		return agent, nil
	}
	named, err := parseURI(cert.URIs[0])
	if err != nil {
		return Agent{}, err
	}
	if named.Cluster != agent.Cluster || named.Name != agent.Name {
		return Agent{}, fmt.Errorf("%w: URI %s and common name %s name different agents", ErrMalformed, Quoted(cert.URIs[0].String()), Quoted(cert.Subject.CommonName))
	}
	return named, nil
}

func parseURI(uri *url.URL) (Agent, error) {
	parts := strings.Split(uri.Path, "/")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "cluster" || parts[4] != "agent" {
		return Agent{}, fmt.Errorf("%w: URI %s is not spiffe://<hub-id>/cluster/<name>/<uid>/agent/<agent>", ErrMalformed, Quoted(uri.String()))
	}
	agent := Agent{Cluster: parts[2], UID: parts[3], Name: parts[5], HubID: uri.Host}
	if agent.HubID == "" || agent.UID == "" {
		return Agent{}, fmt.Errorf("%w: URI %s lacks a hub id or UID", ErrMalformed, Quoted(uri.String()))
	}
	if err := errors.Join(ValidateClusterName(agent.Cluster), ValidateAgentName(agent.Name)); err != nil {
		return Agent{}, err
	}
	if agent.URI().String() != uri.String() {
		return Agent{}, fmt.Errorf("%w: URI %s has parts that do not belong", ErrMalformed, Quoted(uri.String()))
	}
	return agent, nil
}
