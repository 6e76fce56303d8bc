// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/codec"
	"fairlead.dev/fairlead/internal/wire"
)

// Identity is what the agent says of itself in every Hello.
type Identity struct {
	AgentID     string // stable per installation
	InstanceID  string // new on every process start
	Fingerprint string // of the spoke: the UID of its kube-system namespace
	Version     string
}

// Snapshot is what the Store holds, for Hello and for inventories.
type Snapshot struct {
	StoreEpoch string
	HubEpoch   string
	HighWater  wire.HighWater
	Entries    []wire.Entry
}

// Delete is a delete as the hub sent it.
type Delete struct {
	Key      wire.Key
	Revision wire.Revision
	// Orphan: the hub proved that it has no such object. Otherwise its object
	// has a deletionTimestamp.
	Orphan bool
	// Batch is the group of orphans that it was announced in.
	Batch string
}

// Verdict is what became of a delete.
type Verdict int

// Verdicts of Store.Delete.
const (
	DeleteStored   Verdict = iota // recorded durably, or nothing was there to delete
	DeleteHeld                    // recorded durably, waits for a person's release
	DeleteOtherUID                // another object of that name is held; nothing was done
)

// Store keeps what was delivered. When Put, Delete or Forget return nil, a
// re-read after SIGKILL shows it: link then tells the hub so. Calls for
// different keys may be concurrent; calls for one key are not.
type Store interface {
	// Snapshot describes what is held now; the caller owns it.
	Snapshot() Snapshot
	// Put stores content, which has the digest of its revision. A *Rejected
	// error is final for that revision; after another one the hub sends again.
	Put(ctx context.Context, key wire.Key, rev wire.Revision, content []byte) error
	// Delete records a delete.
	Delete(ctx context.Context, d Delete) (Verdict, error)
	// Forget drops an object whose requested delete the hub has finished.
	Forget(ctx context.Context, key wire.Key, uid string) error
}

// Welcome is what the hub says of itself when a session begins.
type Welcome struct {
	HubID       string
	HubEpoch    string
	HighWater   wire.HighWater
	OrphanGrace time.Duration
}

// Hub is told what the hub says of itself. The Store usually implements it.
type Hub interface {
	// Welcomed begins a session; an error refuses the hub.
	Welcomed(ctx context.Context, w Welcome) error
	// Marked is a newer mark of the hub's index. It must not block.
	Marked(mark wire.HighWater)
	// Synced says that all differences that Welcome announced have arrived;
	// failed are the keys that could not be stored.
	Synced(ctx context.Context, failed []wire.Key) error
	// Release lets a held batch go.
	Release(ctx context.Context, batchID string) error
}

// Credentials are how the agent proves itself and recognises the hub.
type Credentials interface {
	// TLS returns the configuration for one endpoint. It fails when there is
	// nothing to dial with, as with an expired certificate; an error with a
	// method Code() string names its reason.
	TLS(endpoint string) (*tls.Config, error)
	// RenewAt is when the certificate is to be renewed; zero means never.
	RenewAt() time.Time
	// Renew gets a new certificate over a live connection and stores it. TLS
	// returns it from then on.
	Renew(ctx context.Context, conn grpc.ClientConnInterface) error
	// Trust stores newer roots of the hub.
	Trust(ctx context.Context, bundle *agentv1.TrustBundle) error
	// TrustVersion is the version of the roots that are stored.
	TrustVersion() uint64
}

// Config is what a Link needs. Fields without a comment on their zero value
// have to be set.
type Config struct {
	// Endpoints are host:port of the hub's agent listener, in order of preference.
	Endpoints []string
	// HubID is the hub that this agent enrolled with. Empty: the first one that
	// answers, and Hub.Welcomed decides.
	HubID       string
	Identity    Identity
	Credentials Credentials
	Store       Store
	Hub         Hub
	Log         *slog.Logger

	// ResendStatuses is called, and must not block, when the hub asks for every
	// status again; each is to be given to Report once more. May be nil.
	ResendStatuses func()
	// Ended is called, and must not block, with the reason of each end of a session
	// and of each attempt at one. May be nil.
	Ended func(why string)
	// ClusterReport is called for each report; nil means that none is sent.
	ClusterReport func() ClusterReport
	// StoreParallel is how many objects of one frame are stored at once; 0 is 8.
	StoreParallel int
	// Window is what the hub may send before it is acknowledged; zero is 4 MiB
	// and 256 objects.
	Window Window
	// Curves limits TLS key exchanges; nil leaves the choice to Credentials.
	Curves []tls.CurveID
	// Dial replaces the network, for tests. Nil is TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Codec may be shared between many links; nil makes one.
	Codec *codec.Codec
	// Metrics may be nil.
	Metrics *Metrics
	// Random returns numbers in [0, 1); nil is math/rand/v2.
	Random func() float64
}

// Window bounds what is under way to the agent.
type Window struct {
	Bytes   uint64
	Objects uint32
}

// Timing that PROTOCOL fixes.
const (
	defaultParallel = 8
	defaultBytes    = 4 << 20
	defaultObjects  = 256

	handshakeTimeout = 45 * time.Second // a slow link, and a hub that is busy with others
	storeTimeout     = 20 * time.Second // one object; then the hub is told to send again, before it takes the agent for one that hangs
	goodbyeTimeout   = time.Second

	antiEntropyEvery  = 10 * time.Minute
	antiEntropyJitter = 0.2
)

func (c *Config) complete() error {
	missing := map[string]bool{
		"Endpoints": len(c.Endpoints) == 0, "Credentials": c.Credentials == nil,
		"Store": c.Store == nil, "Hub": c.Hub == nil, "Log": c.Log == nil, "Identity.InstanceID": c.Identity.InstanceID == "",
	}
	var errs []error
	for name, is := range missing {
		if is {
			errs = append(errs, fmt.Errorf("link: Config.%s must be set", name))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if c.StoreParallel == 0 {
		c.StoreParallel = defaultParallel
	}
	if c.Window == (Window{}) {
		c.Window = Window{Bytes: defaultBytes, Objects: defaultObjects}
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Ended == nil {
		c.Ended = func(string) {}
	}
	if c.ResendStatuses == nil {
		c.ResendStatuses = func() {}
	}
	var err error
	if c.Codec == nil {
		c.Codec, err = codec.New(wire.MaxObject)
	}
	return err
}
