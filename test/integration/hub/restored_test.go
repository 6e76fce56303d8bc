// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/server"
	"fairlead.dev/fairlead/server/ca"
	"fairlead.dev/fairlead/test/env"
)

// A scheduler watches while the hub's etcd is restored from a backup and the hub has a
// new epoch: both watches say so by a Reset, and tell then what there is after it. A token of the time in
// between is worth nothing.
func TestSchedulers_watches_begin_anew_after_a_restore(t *testing.T) {
	plane := env.StartPlane(t, env.Options{Name: "restored", NoAudit: true})
	log := &journal{}
	hub := startHub(t, plane.RESTConfig(), func(c *server.Config) {
		c.InstallCRDs, c.Log = true, slog.New(slog.NewTextHandler(io.MultiWriter(log, logWriter(t)), nil))
	}).ready()
	region := newRegion(hub, 1)
	d := hub.dispatcher(hub.person(plane, "scheduler", "fairlead-scheduler", ""), "one")
	region.placement("kept", region.name)
	backup, err := plane.Snapshot(t.Context())
	require.NoError(t, err)
	region.placement("lost", region.name)

	placements, err := d.api.WatchPlacements(d.ctx, &schedulerv1.WatchPlacementsRequest{SchedulerName: region.name})
	require.NoError(t, err)
	clusters, err := d.api.WatchClusters(d.ctx, &schedulerv1.WatchClustersRequest{})
	require.NoError(t, err)
	h := &heard{last: map[string]*schedulerv1.Placement{}}
	for !marked("+kept", "+lost")(h) {
		h.read(t, placements)
	}
	later := h.token
	require.NoError(t, plane.Restore(t.Context(), backup))
	// As the runbook says: the apiserver may need more revisions to start than were
	// lost, and then nothing else shows the restore.
	until(t, "a new epoch to be ordered", func() error { return order(t, hub, "the-first") })

	h.events = nil
	for !marked("reset", "+kept")(h) {
		event, err := placements.Recv()
		if status.Code(err) != codes.Unavailable {
			require.NoError(t, err, "heard so far: %v", h.events)
			h.take(t, event)
			continue
		}
		// The apiserver was away as the watch's rights were looked at: it is opened again, as a scheduler does.
		until(t, "the watch to be open again", func() (err error) {
			placements, err = d.api.WatchPlacements(d.ctx, &schedulerv1.WatchPlacementsRequest{SchedulerName: region.name, ResumeToken: later})
			if err == nil {
				event, err = placements.Recv()
			}
			return err
		})
		h.take(t, event)
	}
	require.NotContains(t, h.events[slices.Index(h.events, "reset"):], "+lost", "it never was")
	require.NotContains(t, h.last, "lost")
	told := map[string]bool{}
	for reset, done := false, false; !done; {
		answer, err := clusters.Recv()
		if status.Code(err) == codes.Unavailable { // likewise; without a token it begins anew
			clusters, err = d.api.WatchClusters(d.ctx, &schedulerv1.WatchClustersRequest{})
			require.NoError(t, err)
			reset = true
			clear(told)
			continue
		}
		require.NoError(t, err)
		switch e := answer.GetEvent().(type) {
		case *schedulerv1.WatchClustersResponse_Reset_:
			reset = true
			clear(told)
		case *schedulerv1.WatchClustersResponse_Upsert:
			told[e.Upsert.GetName()] = true
		case *schedulerv1.WatchClustersResponse_Bookmark:
			done = reset
		}
	}
	require.True(t, told[region.clusters[0]])

	again := d.watch(region.name, later, marked("reset", "+kept"))
	require.NotContains(t, again.events, "+lost")
	epochReturns(t, hub, log)
}

// epochReturns: somebody orders a new epoch, as after a restore, and then another
// restore brings back the former. Agents were told in it what is not there any more, so
// it does not become the hub's again.
func epochReturns(t *testing.T, hub *running, log fmt.Stringer) {
	t.Helper()
	const second = "the-second"
	first := epochOf(t, hub)
	require.NoError(t, order(t, hub, second))
	until(t, "the hub to follow", func() error {
		if !strings.Contains(log.String(), "epoch="+second) {
			return errors.New("not yet")
		}
		return nil
	})
	require.NoError(t, order(t, hub, first))
	until(t, "a third epoch", func() error {
		if now := epochOf(t, hub); now == first || now == second {
			return fmt.Errorf("it is %s", now)
		}
		return nil
	})
}

// order gives the hub an epoch.
func order(t *testing.T, hub *running, epoch string) error {
	t.Helper()
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: identity.HubNamespace, Name: ca.HubConfigMap}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"data":{%q:%q}}`, ca.HubEpochKey, epoch))
	return hub.kube.Patch(t.Context(), config, patch)
}

func epochOf(t *testing.T, hub *running) string {
	t.Helper()
	config := &corev1.ConfigMap{}
	require.NoError(t, hub.kube.Get(t.Context(), client.ObjectKey{Namespace: identity.HubNamespace, Name: ca.HubConfigMap}, config))
	return config.Data[ca.HubEpochKey]
}
