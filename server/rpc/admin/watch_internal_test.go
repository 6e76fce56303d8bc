// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"hash/maphash"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

func TestPollReportsChangesOnly(t *testing.T) {
	var sent []string
	items := []*adminv1.Enrollment{{EnrollmentId: "a"}, {EnrollmentId: "b"}}
	p := &poller[*adminv1.Enrollment]{
		list:    func(context.Context) ([]*adminv1.Enrollment, error) { return items, nil },
		key:     (*adminv1.Enrollment).GetEnrollmentId,
		view:    func(e *adminv1.Enrollment) proto.Message { return e },
		upsert:  func(e *adminv1.Enrollment) error { sent = append(sent, "+"+e.GetEnrollmentId()); return nil },
		removed: func(id string) error { sent = append(sent, "-"+id); return nil },
		seed:    maphash.MakeSeed(),
		known:   map[string]uint64{},
	}
	take := func() (out []string) {
		require.NoError(t, p.report(t.Context()))
		out, sent = sent, nil
		return out
	}
	require.Equal(t, []string{"+a", "+b"}, take())
	require.Empty(t, take())
	items = []*adminv1.Enrollment{{EnrollmentId: "b", State: "Active"}, {EnrollmentId: "c"}}
	require.Equal(t, []string{"+b", "+c", "-a"}, take())
	require.Empty(t, take())
}

// oneSession is a session that ends, or not, after some time.
type oneSession struct{ ends time.Time }

func (o oneSession) List(context.Context) ([]*adminv1.SessionInfo, error) {
	if time.Now().After(o.ends) {
		return nil, nil
	}
	return []*adminv1.SessionInfo{{ClusterName: "c", HubReplica: "r1"}, {ClusterName: "d", HubReplica: "r2"}}, nil
}
func (oneSession) Kick(context.Context, string, string) error    { return nil }
func (oneSession) Held(string) ([]*adminv1.HeldBatch, bool)      { return nil, false }
func (oneSession) Release(context.Context, string, string) error { return nil }

func TestRevokeWaitsForSessions(t *testing.T) {
	cases := map[string]struct {
		reason string
		lives  time.Duration
		silent []string
		took   time.Duration
	}{
		"ends":  {"it returns as soon as no session is left", time.Second, nil, time.Second + 50*time.Millisecond},
		"stays": {"it names the replicas that did not answer", time.Hour, []string{"r1"}, revokeWait},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				s := &Service{Config: Config{Sessions: oneSession{ends: began.Add(tc.lives)}}}
				silent, err := s.waitForNoSession(t.Context(), "c")
				require.NoError(t, err)
				require.Equal(t, tc.silent, silent, tc.reason)
				require.LessOrEqual(t, time.Since(began), tc.took, tc.reason)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := &Service{Config: Config{Sessions: oneSession{ends: time.Now().Add(time.Hour)}}}
		_, err := s.waitForNoSession(ctx, "c")
		require.Equal(t, codes.DeadlineExceeded, rpcerr.From(err).Code, "a caller that gives up is told what was done")
	})
}
