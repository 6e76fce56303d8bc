// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"fairlead.dev/fairlead/internal/pki"
)

// Files name the operator's own PKI: the hub's certificate (with its chain up
// to the root, so that agents can find a pinned root in it), its key, and the
// authorities of agents' certificates. All PEM.
type Files struct {
	Certificate   string
	Key           string
	AgentClientCA string
}

// NewFromFiles serves with the operator's own PKI. The files are read again
// while Run runs; a change is in use within FileRefresh, and files that do not
// fit together leave the old content in use. There is no Signer then. Of cfg
// only FileRefresh, Clock and Log are used.
func NewFromFiles(cfg Config, files Files) (*Authorities, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	state, content, err := files.load()
	if err != nil {
		return nil, err
	}
	return &Authorities{cfg: cfg, files: &files, fileContent: content, server: pki.NewServer(state).By(cfg.Clock.Now)}, nil
}

func (a *Authorities) reloadFiles() error {
	state, content, err := a.files.load()
	if err != nil {
		return err
	}
	if content == a.fileContent {
		return nil
	}
	a.fileContent = content
	a.server.Set(state)
	a.cfg.Log.Info("the hub's certificate files changed and are in use", "notAfter", state.Certificate.Leaf.NotAfter)
	return nil
}

// load reads the three files; content changes whenever one of them does.
func (f Files) load() (state pki.ServerState, content string, err error) {
	var data [3][]byte
	for i, path := range []string{f.Certificate, f.Key, f.AgentClientCA} {
		if data[i], err = os.ReadFile(path); err != nil {
			return state, "", fmt.Errorf("reading the hub's PKI: %w", err)
		}
	}
	serving, err := tls.X509KeyPair(data[0], data[1])
	if err != nil {
		return state, "", fmt.Errorf("certificate %q and key %q: %w", f.Certificate, f.Key, err)
	}
	clientCAs, err := pki.ParseCertificates(data[2])
	if err != nil {
		return state, "", fmt.Errorf("agent client CA %q: %w", f.AgentClientCA, err)
	}
	pool := x509.NewCertPool()
	for _, cert := range clientCAs {
		pool.AddCert(cert)
	}
	state = pki.ServerState{Certificate: &serving, ClientCAs: pool}
	return state, string(data[0]) + string(data[1]) + string(data[2]), nil
}
