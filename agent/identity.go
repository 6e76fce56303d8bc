// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"fairlead.dev/fairlead/agent/enroll"
	"fairlead.dev/fairlead/agent/link"
	"fairlead.dev/fairlead/internal/version"
)

// enrollRetry is how long an agent that has work to keep waits after the hub
// refused it for good.
const enrollRetry = 5 * time.Minute

// identified is who the agent is, and where its hub is.
type identified struct {
	link.Credentials
	notAfter  func() time.Time
	endpoints []string
	hubID     string
	agentID   string
	own       *enroll.Credentials // nil where somebody else keeps the identity
}

// meet gets the agent its identity with a join string, which may be empty if it
// has one, then keeps a session with the hub until ctx ends.
func (a *Agent) meet(ctx context.Context, vault enroll.Vault, fingerprint, join string) error {
	who, err := a.identify(ctx, vault, fingerprint, join)
	if err != nil {
		return err
	}
	a.notAfter.Store(&who.notAfter)
	a.enrolled.set("yes")
	l, err := link.New(link.Config{
		Endpoints: who.endpoints, HubID: who.hubID, Credentials: who.Credentials,
		Identity:       link.Identity{AgentID: who.agentID, InstanceID: rand.Text(), Fingerprint: fingerprint, Version: version.Get().Version},
		Store:          a.inbound,
		Hub:            a.inbound,
		Log:            a.log.With("room", "link"),
		ResendStatuses: a.resend,
		ClusterReport:  a.report,
		Metrics:        a.metrics,
		Dial:           a.dialer.Dial,
		Ended:          a.ended,
	})
	if err != nil {
		return err
	}
	a.outbound.link.Store(l)
	a.resend() // what was reported while there was no link
	c := &consent{Agent: a, creds: who.own, ask: a.standing}
	return runTasks(ctx, []task{{"session", l.Run}, {"consent", c.watch}})
}

// identify returns the agent's identity: from files, from the vault, or from
// the hub after a person let it in. An agent that already has works keeps them
// going while it waits for somebody to mend what is wrong.
func (a *Agent) identify(ctx context.Context, vault enroll.Vault, fingerprint, join string) (identified, error) {
	if a.files != nil {
		return identified{Credentials: a.files, notAfter: a.files.NotAfter, endpoints: a.cfg.Endpoints, agentID: a.agentID(a.files.AgentName())}, nil
	}
	enroller, err := enroll.New(a.enrollConfig(vault, fingerprint, join))
	if err != nil {
		return identified{}, err
	}
	for {
		creds, err := enroller.Credentials(ctx)
		if err == nil {
			a.unidentified.Store(nil)
			a.log.Info("the agent has its identity", "cluster", creds.Cluster(), "serial", creds.Serial(), "notAfter", creds.NotAfter())
			return identified{
				Credentials: creds, notAfter: creds.NotAfter, endpoints: creds.Endpoints(), hubID: creds.HubID(), agentID: a.agentID(creds.AgentName()),
				own: creds,
			}, nil
		}
		if ctx.Err() != nil || a.hubID.get() == "" {
			return identified{}, err
		}
		a.unidentified.Store(&err)
		a.log.Error("the agent has no valid identity; what it has received is kept going", "error", err, "retryIn", enrollRetry)
		pause(ctx, enrollRetry)
	}
}

func (a *Agent) enrollConfig(vault enroll.Vault, fingerprint, join string) enroll.Config {
	return enroll.Config{
		Vault: vault, Log: a.log.With("room", "enroll"), Join: join, ClusterName: a.cfg.ClusterName,
		Fingerprint: fingerprint, AgentID: a.cfg.AgentID, Version: version.Get().Version,
		Waiting: a.showPairingCode, Dial: a.dialer.Dial,
	}
}

// showPairingCode leaves the code where tools on the spoke find it: in a file
// of the data folder, or, with Secrets, in key pairing-code of the credentials.
func (a *Agent) showPairingCode(r enroll.Request) {
	if a.cfg.storeKind() != StoreFiles {
		return
	}
	path := filepath.Join(a.cfg.DataDir, "pairing-code")
	if err := os.WriteFile(path, []byte(r.PairingCode+"\n"), 0o600); err != nil {
		a.log.Warn("the pairing code could not be written to a file", "error", err)
	}
}

func (a *Agent) agentID(name string) string {
	if a.cfg.AgentID != "" {
		return a.cfg.AgentID
	}
	return name
}

// errNotEnrolled and errNoSession are what readiness says.
var (
	errNotEnrolled = errors.New("the hub has not let this spoke in yet")
	errNoSession   = errors.New("there is no session with the hub")
)
