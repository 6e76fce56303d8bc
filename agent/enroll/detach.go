// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/dialer"
)

// detachTimeout is how long one endpoint of the hub may take to hear it.
const detachTimeout = 10 * time.Second

// Detach tells the hub that the spoke leaves: whatever it answers, the agent is
// free to go. It dials by itself, one endpoint after the other, so that it needs
// no session; repeating it does no harm. Nil for dial is TCP without a proxy.
func (c *Credentials) Detach(ctx context.Context, dial dialer.DialFunc, why string, leaveWorkloads bool) error {
	var problems []error
	for _, endpoint := range c.Endpoints() {
		err := c.detach(ctx, endpoint, dial, &agentv1.DetachRequest{Reason: why, LeaveWorkloads: leaveWorkloads})
		if err == nil {
			return nil
		}
		problems = append(problems, err)
	}
	return fmt.Errorf("telling the hub that this spoke leaves: %w", errors.Join(problems...))
}

func (c *Credentials) detach(ctx context.Context, endpoint string, dial dialer.DialFunc, request *agentv1.DetachRequest) error {
	config, err := c.TLS(endpoint) //nolint:contextcheck // it bounds the one read of its own
	if err != nil {
		return err
	}
	way := dialer.NewWay(endpoint, config, dial)
	conn, err := way.Client(grpc.WithDisableServiceConfig())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, detachTimeout)
	defer cancel()
	if _, err := agentv1.NewAgentServiceClient(conn).Detach(ctx, request); err != nil {
		return refusal(way, err)
	}
	return nil
}

// Forget removes the identity from where it is kept; the process goes on with it.
func (c *Credentials) Forget(ctx context.Context) error { return c.vault.Save(ctx, Record{}) }
