// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/dialer"
	"fairlead.dev/fairlead/internal/pki"
)

// detachTimeout is how long one endpoint of the hub may take to hear it.
const detachTimeout = 10 * time.Second

// record is an agent's identity: see agent/enroll.
type record struct {
	state

	endpoints             []string
	certificate, key, cas []byte
}

func recordOf[T ~string | ~[]byte](data map[string]T) record {
	r := record{state: stateOf(data), certificate: []byte(data[keyCertificate]), key: []byte(data["tls.key"]), cas: []byte(data["ca.crt"])}
	if text := string(data["endpoints"]); text != "" {
		r.endpoints = strings.Split(text, ",")
	}
	return r
}

// tell says to the hub, as the agent would, that the spoke leaves. A hub that
// cannot be reached holds nobody back.
func (u *unjoin) tell(ctx context.Context) bool {
	switch {
	case !u.tellHub:
		return false
	case !u.known.certified:
		u.o.Notef("The hub is not told: the agent has no certificate of it.")
		return false
	}
	request := &agentv1.DetachRequest{Reason: "fairlead unjoin: what its works applied " + u.left(), LeaveWorkloads: u.onDetach == onDetachKeep}
	if err := u.known.detach(ctx, request); err != nil {
		u.o.Notef("The hub could not be told: %v", err)
		return false
	}
	u.o.Notef("Hub %s was told", u.known.hub)
	return true
}

func (u *unjoin) left() string {
	if u.onDetach == onDetachKeep {
		return "stays there"
	}
	return "was deleted"
}

func (r record) detach(ctx context.Context, request *agentv1.DetachRequest) error {
	certificate, err := tls.X509KeyPair(r.certificate, r.key)
	if err != nil {
		return fmt.Errorf("the agent's certificate: %w", err)
	}
	roots, err := pki.ParseCertificates(r.cas)
	if err != nil {
		return fmt.Errorf("the hub's CA, as the agent has it: %w", err)
	}
	client := pki.NewClient(pki.Trust{Roots: roots})
	client.SetCertificate(&certificate)
	problems := []error{errors.New("no endpoint of it is known")}
	for i, endpoint := range r.endpoints {
		err := detachAt(ctx, client, endpoint, request)
		if err == nil {
			return nil
		}
		problems = append(problems[:i], fmt.Errorf("%s: %w", endpoint, err))
	}
	return errors.Join(problems...)
}

func detachAt(ctx context.Context, client *pki.Client, endpoint string, request *agentv1.DetachRequest) error {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return err
	}
	way, err := dialer.New(dialer.Config{}) // the environment's proxies: this runs where the person is
	if err != nil {
		return err
	}
	conn, err := dialer.NewWay(endpoint, client.TLSConfig(host), way.Dial).Client(grpc.WithDisableServiceConfig())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, detachTimeout)
	defer cancel()
	_, err = agentv1.NewAgentServiceClient(conn).Detach(ctx, request)
	return cli.Explain(err)
}
