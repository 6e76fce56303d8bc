// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
)

// agent is an agent that this command runs.
type agent interface {
	// start runs it, unless it runs.
	start(ctx context.Context) error
	// state is how far it is. An error says that it will get no further.
	state(ctx context.Context) (state, error)
	// hint says where to look at it.
	hint() string
}

// state is how far an agent is on its way into a hub.
type state struct {
	cluster, hub, code string

	certified bool // it has a certificate
	pending   bool // it asks for one, with a key that the hub does not know yet
	connected bool
	trouble   string // the last thing that went wrong, while it goes on trying
}

// joined tells whether the hub has let the agent in.
func (s state) joined() bool { return s.certified && !s.pending }

// Keys of the agent's credentials, in its Secret and in its file: see
// agent/enroll.
const (
	keyCertificate = "tls.crt"
	keyPending     = "pending.key"
	keyPairing     = "pairing-code"
	keyCluster     = "cluster-name"
	keyHub         = "hub-id"
)

// stateOf reads an agent's credentials.
func stateOf[T ~string | ~[]byte](data map[string]T) state {
	return state{
		cluster: string(data[keyCluster]), hub: string(data[keyHub]), code: string(data[keyPairing]),
		certified: len(data[keyCertificate]) > 0, pending: len(data[keyPending]) > 0,
	}
}
