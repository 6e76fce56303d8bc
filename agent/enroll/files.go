// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
)

// errNotReplaced says that somebody else has to act before a certificate from a
// file can be renewed.
var errNotReplaced = errors.New("the certificate file has not been replaced")

// replacedBy is the part of a certificate's life after which its file should
// have been replaced.
const replacedBy = 0.9

// Files is an identity that somebody else keeps in files (--client-cert and
// --client-key, with --hub-ca): no enrollment, no renewal; files that are
// replaced are read again. Safe for concurrent use.
type Files struct {
	cluster, cert, key, ca string
	client                 *pki.Client

	mu   sync.Mutex
	leaf *leaf
}

type leaf struct {
	agent, serial       string
	notBefore, notAfter time.Time
}

// FilesConfig names the files.
type FilesConfig struct {
	ClusterName             string
	CertFile, KeyFile, Root string
}

// NewFiles reads the files once, so that what is wrong with them shows at the
// start.
func NewFiles(cfg FilesConfig) (*Files, error) {
	if err := identity.ValidateClusterName(cfg.ClusterName); err != nil {
		return nil, problem(reason.InvalidName, err, "%v", err)
	}
	f := &Files{cluster: cfg.ClusterName, cert: cfg.CertFile, key: cfg.KeyFile, ca: cfg.Root, client: pki.NewClient(pki.Trust{})}
	return f, f.read()
}

// read loads the files and puts them in force.
func (f *Files) read() error {
	ca, errCA := os.ReadFile(f.ca)
	chain, errCert := os.ReadFile(f.cert)
	key, errKey := os.ReadFile(f.key)
	if err := errors.Join(errCA, errCert, errKey); err != nil {
		return fmt.Errorf("reading --hub-ca, --client-cert and --client-key: %w", err)
	}
	roots, err := pki.ParseCertificates(ca)
	if err != nil {
		return fmt.Errorf("--hub-ca %s: %w", f.ca, err)
	}
	pair, err := keyPair(chain, key)
	if err != nil {
		return fmt.Errorf("--client-cert %s with --client-key %s: %w", f.cert, f.key, err)
	}
	agent, err := identity.ParseCertificate(pair.Leaf)
	if err != nil {
		return fmt.Errorf("--client-cert %s: %w", f.cert, err)
	}
	if agent.Cluster != f.cluster {
		return problem(reason.InvalidName, nil, "--client-cert %s is of cluster %q, --cluster-name is %q", f.cert, agent.Cluster, f.cluster)
	}
	f.mu.Lock()
	f.leaf = &leaf{agent: agent.Name, serial: pki.Serial(pair.Leaf), notBefore: pair.Leaf.NotBefore, notAfter: pair.Leaf.NotAfter}
	f.mu.Unlock()
	f.client.SetTrust(pki.Trust{Roots: roots})
	f.client.SetCertificate(pair)
	return nil
}

// TLS reads the files and returns the configuration for one endpoint.
func (f *Files) TLS(endpoint string) (*tls.Config, error) {
	if err := f.read(); err != nil {
		return nil, err
	}
	if at := f.NotAfter(); !time.Now().Before(at) {
		return nil, &Error{
			Reason: reason.CertificateExpired, Advice: "replace the file",
			Message: fmt.Sprintf("--client-cert %s expired at %s", f.cert, at.UTC().Format(time.RFC3339)),
		}
	}
	return f.client.TLSConfig(host(endpoint)), nil
}

// AgentName is the agent's own name, as the certificate has it.
func (f *Files) AgentName() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaf.agent
}

// NotAfter is when the certificate expires.
func (f *Files) NotAfter() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaf.notAfter
}

// RenewAt is when the file should have been replaced.
func (f *Files) RenewAt() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	life := f.leaf.notAfter.Sub(f.leaf.notBefore)
	return f.leaf.notBefore.Add(time.Duration(replacedBy * float64(life)))
}

// Renew reads the files again; it fails while the certificate is the old one.
func (f *Files) Renew(context.Context, grpc.ClientConnInterface) error {
	f.mu.Lock()
	before := f.leaf.serial
	f.mu.Unlock()
	if err := f.read(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leaf.serial == before {
		return fmt.Errorf("%w: %s expires at %s", errNotReplaced, f.cert, f.leaf.notAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// Trust does nothing: --hub-ca says whom to trust.
func (f *Files) Trust(context.Context, *agentv1.TrustBundle) error { return nil }

// TrustVersion is always 0: roots from the hub are not taken.
func (f *Files) TrustVersion() uint64 { return 0 }
