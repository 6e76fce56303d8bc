// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	agentv1 "fairlead.dev/fairlead/gen/fairlead/agent/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/pki"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
	"fairlead.dev/fairlead/test/house"
)

// flood is attackers that ask a hub to enroll them, each from an address of its own
// and all calls that its connection may have, as fast as they are answered.
type flood struct {
	stop  context.CancelFunc
	group sync.WaitGroup

	mu       sync.Mutex
	attempts int
	reasons  map[string]int // of refusals; "" is none
}

const (
	// atOnce is how many calls a connection to the hub may have.
	atOnce = 8
	// inTime is how many attempts a source has before it is told that there are too many, and more.
	inTime = 20
)

// flood has n attackers call with what ask makes.
func (w *world) flood(hub *house.Hub, n int, ask func(source, nth int) (*agentv1.EnrollRequest, error)) *flood {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	f := &flood{stop: cancel, reasons: map[string]int{}}
	for source := range n {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 53, 0, byte(1+source))}}
		conn, err := grpc.NewClient("passthrough:///"+hub.AgentAddress,
			grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})), // they send what everybody may know
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp", address)
			}))
		require.NoError(w.t, err)
		w.t.Cleanup(func() { _ = conn.Close() })
		api, nth := agentv1.NewAgentServiceClient(conn), new(atomic.Int64)
		for range atOnce {
			f.group.Go(func() {
				for ctx.Err() == nil {
					request, err := ask(source, int(nth.Add(1)))
					if err == nil {
						_, err = api.Enroll(ctx, request)
					}
					if ctx.Err() == nil {
						f.count(rpcerr.ReasonOf(err))
					}
				}
			})
		}
	}
	w.t.Cleanup(f.end)
	return f
}

// count notes what became of an attempt.
func (f *flood) count(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts++
	f.reasons[why]++
}

// tooMany waits until an attacker was told that there are too many: an answer that
// takes seconds, and is not counted once the flood ends.
func (w *world) tooMany(f *flood) {
	w.t.Helper()
	w.until("an attacker to be told that there are too many", func(context.Context) (bool, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.reasons[reason.RateLimited] > 0, fmt.Errorf("%v", f.reasons)
	})
}

// end waits for all calls to be over.
func (f *flood) end() {
	f.stop()
	f.group.Wait()
}

func (f *flood) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d attempts, refused: %v", f.attempts, f.reasons)
}

// asking is a request to enroll, with a new key.
func asking(cluster, token string) (*agentv1.EnrollRequest, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewCSR(key, identity.Subject(cluster, "flood"))
	return &agentv1.EnrollRequest{ClusterName: cluster, JoinToken: token, CsrDer: csr}, err
}

// TestT53_a_flood_of_enrollments: many sources ask with a good token as fast as they
// are answered, in a soak each time for another cluster. An honest one gets to wait for a person
// meanwhile, no more wait than may, and who has a session keeps it and is sent what
// changes.
func TestT53_a_flood_of_enrollments(t *testing.T) {
	t.Parallel()
	sources := house.Scaled(10, 50)
	last, changes, names := house.Scaled(4*time.Second, 10*time.Minute), house.Scaled(5, 1000), house.Scaled(1, 1000)
	side, err := shared()
	if house.Soak() { // it leaves as many waiting as may, which would keep other tests' clusters out
		side, err = startHubSide("t53")
	}
	require.NoError(t, err)
	w := newWorldOn(t, side)
	c := w.unique("t53")
	hub := w.replica(hubOptions{}, w.proxy(""))
	w.join(hub, c)
	before := w.deliveries(hub, c, changes)
	text, err := hub.CLI(t.Context(), "token", "create", "--pattern", c+"-flood-*", "--uses", "1000")
	require.NoError(t, err)
	join, err := pki.ParseJoinString(text)
	require.NoError(t, err)
	sessions, cpu, begun := w.metric(hub, starts), w.metric(hub, "process_cpu_seconds_total"), time.Now()
	f := w.flood(hub, sources, func(source, nth int) (*agentv1.EnrollRequest, error) {
		return asking(fmt.Sprintf("%s-flood-%d-%d", c, source, nth%names), join.Token)
	})
	token, err := hub.CLI(t.Context(), "token", "create", c+"-honest")
	require.NoError(t, err)
	asked := time.Now()
	w.agent(house.AgentConfig{Cluster: c + "-honest", Join: strings.TrimSpace(token)})
	w.until("the honest one to wait for a person", func(context.Context) (bool, error) {
		list, err := hub.CLI(t.Context(), "get", "enrollments")
		return strings.Contains(list, c+"-honest"), err
	})
	pending := time.Since(asked)
	during := w.deliveries(hub, c, changes)
	w.pace(begun.Add(last))
	w.tooMany(f)
	f.end()
	took, used := time.Since(begun), w.metric(hub, "process_cpu_seconds_total")-cpu
	t.Logf("scale: %d sources for %s; the honest one waited for a person after %s", sources, took.Round(time.Millisecond), pending.Round(time.Millisecond))
	t.Logf("%s; %.0f a second; the hub took %.0f %% of a CPU for all; p99 of deliveries %s before, %s meanwhile",
		f, float64(f.attempts)/took.Seconds(), 100*used/took.Seconds(), before, during)
	require.LessOrEqual(t, pending, time.Minute)
	require.InDelta(t, sessions, w.metric(hub, starts), 0, "no session was lost")
	require.Contains(t, f.String(), reason.RateLimited, "there was a flood")
	if house.Soak() { // what attackers take of the CPUs that all share is allowed for
		require.LessOrEqual(t, during, before*11/10+10*time.Millisecond)
	}
	list, err := hub.CLI(t.Context(), "get", "enrollments", "-o", "name")
	require.NoError(t, err)
	require.LessOrEqual(t, strings.Count(list, "-flood-"), 500)
	w.verdict(c)
}

// TestT52_guesses_cost_little: many sources know the name of a token and guess its
// secret. Once they are told that they ask too often, each answer takes three seconds, so
// that a million guesses take hours, and a few per cent of a CPU.
func TestT52_guesses_cost_little(t *testing.T) {
	t.Parallel()
	sources, last := house.Scaled(5, 50), house.Scaled(4*time.Second, 2*time.Minute)
	side, err := shared()
	if house.Soak() { // the CPU is that of the guesses alone
		side, err = startHubSide("t52")
	}
	require.NoError(t, err)
	w := newWorldOn(t, side)
	c := w.unique("t52")
	hub := w.replica(hubOptions{}, w.proxy(""))
	text, err := hub.CLI(t.Context(), "token", "create", c)
	require.NoError(t, err)
	join, err := pki.ParseJoinString(text)
	require.NoError(t, err)
	id, secret, _ := strings.Cut(join.Token, ".")
	request, err := asking(c, "")
	require.NoError(t, err)
	cpu, begun := w.metric(hub, "process_cpu_seconds_total"), time.Now()
	f := w.flood(hub, sources, func(source, nth int) (*agentv1.EnrollRequest, error) {
		guess := fmt.Sprintf("%03d%d", source, nth)
		return &agentv1.EnrollRequest{ClusterName: c, JoinToken: id + "." + secret[:len(secret)-len(guess)] + guess, CsrDer: request.GetCsrDer()}, nil
	})
	w.pace(begun.Add(last))
	w.tooMany(f)
	f.end()
	took, used := time.Since(begun), w.metric(hub, "process_cpu_seconds_total")-cpu
	t.Logf("scale: %d sources for %s; %s; %.0f a second; the hub took %.1f %% of a CPU",
		sources, took.Round(time.Millisecond), f, float64(f.attempts)/took.Seconds(), 100*used/took.Seconds())
	require.Contains(t, f.String(), reason.RateLimited)
	require.Zero(t, f.reasons[""], "not one got in")
	require.LessOrEqual(t, f.attempts, sources*(atOnce*int(took.Seconds()/3+1)+inTime), "an answer takes three seconds once there were too many")
	if house.Soak() {
		require.Less(t, used/took.Seconds(), 0.10)
	}
	list, err := hub.CLI(t.Context(), "get", "enrollments", "-o", "name")
	require.NoError(t, err)
	require.NotContains(t, list, c)
}

// deliveries changes a work so many times, one after the other, and returns below
// what 99 of 100 stayed from the change in the hub's index to the agent's store.
func (w *world) deliveries(hub *house.Hub, cluster string, n int) time.Duration {
	w.t.Helper()
	taken := make([]float64, n)
	for i := range taken {
		sum, count := w.metric(hub, "fairlead_hub_delivery_seconds_sum"), w.metric(hub, "fairlead_hub_delivery_seconds_count")
		w.put(cluster, nil, cluster+"-w")
		w.reaches(hub, "fairlead_hub_delivery_seconds_count", atLeast(count+1))
		taken[i] = w.metric(hub, "fairlead_hub_delivery_seconds_sum") - sum
	}
	slices.Sort(taken)
	return time.Duration(taken[n*99/100] * float64(time.Second)).Round(10 * time.Microsecond)
}
