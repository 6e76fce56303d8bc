// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command scheduler gives placements the clusters with the most allocatable memory, and reports that as a score. It ends
// when it is fenced, loses the hub or is told to forget; what runs it starts it again, and nothing is lost.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
)

type scheduler struct {
	api            v1.SchedulerServiceClient
	name, reported string
	term           uint64
	clusters       map[string]*v1.Cluster
	placements     map[string]*v1.Placement
	done           map[string]string // by placement's UID: what was decided on last
}

func main() {
	hub, ca := flag.String("hub", "fairlead-hub-admin.open-cluster-management-hub.svc:8444", "the hub's admin listener"), flag.String("ca", "", "file with the hub's CA")
	token, name := flag.String("token", "", "file with a bearer token of the hub's Kubernetes"), flag.String("name", "most-memory", "the scheduler's name")
	flag.Parse()
	tls, noCA := credentials.NewClientTLSFromFile(*ca, "")
	secret, noToken := os.ReadFile(*token)
	conn, err := grpc.NewClient(*hub, grpc.WithTransportCredentials(tls))
	if err = errors.Join(noCA, noToken, err); err == nil {
		s := &scheduler{v1.NewSchedulerServiceClient(conn), *name, "", 0, map[string]*v1.Cluster{}, map[string]*v1.Placement{}, map[string]string{}}
		err = s.run(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+strings.TrimSpace(string(secret))))
	}
	slog.Error("the scheduler ends", "reason", err)
	os.Exit(1)
}

func (s *scheduler) run(ctx context.Context) (err error) {
	clusters, noClusters := s.api.WatchClusters(ctx, &v1.WatchClustersRequest{})
	placements, noPlacements := s.api.WatchPlacements(ctx, &v1.WatchPlacementsRequest{SchedulerName: s.name})
	if err = errors.Join(noClusters, noPlacements, s.acquire(ctx)); err != nil {
		return err
	}
	var sources sync.WaitGroup // they live as long as the process
	events, renew := make(chan any), time.NewTicker(10*time.Second)
	sources.Go(func() { listen(events, func() (any, error) { return <-renew.C, nil }) })
	sources.Go(func() { listen(events, func() (any, error) { e, err := clusters.Recv(); return e.GetEvent(), err }) })
	sources.Go(func() { listen(events, func() (any, error) { e, err := placements.Recv(); return e.GetEvent(), err }) })
	for known := map[string]bool{}; err == nil; {
		switch e := (<-events).(type) {
		case time.Time:
			err = s.acquire(ctx)
		case *v1.WatchClustersResponse_Upsert:
			s.clusters[e.Upsert.GetName()] = e.Upsert
		case *v1.WatchClustersResponse_Removed:
			delete(s.clusters, e.Removed)
		case *v1.WatchPlacementsResponse_Upsert:
			s.placements[key(e.Upsert.GetRef())] = e.Upsert
		case *v1.WatchPlacementsResponse_Removed:
			delete(s.placements, key(e.Removed))
		case *v1.WatchClustersResponse_Bookmark, *v1.WatchPlacementsResponse_Bookmark:
			known[fmt.Sprintf("%T", e)] = true
		default: // an error, or a Reset
			err = fmt.Errorf("a watch ended: %+v", e)
		}
		if err == nil && len(known) == 2 { // what there was at first is known
			err = s.decide(ctx)
		}
	}
	return err
}

func listen(events chan<- any, receive func() (any, error)) {
	for event, err := receive(); ; event, err = receive() {
		events <- cmp.Or[any](err, event)
	}
}

func (s *scheduler) acquire(ctx context.Context) error {
	answer, err := s.api.AcquireTerm(ctx, &v1.AcquireTermRequest{SchedulerName: s.name, Holder: fmt.Sprintf("pid-%d", os.Getpid()), Ttl: durationpb.New(30 * time.Second)})
	s.term = answer.GetTerm()
	return err // TERM_HELD while another process works
}

func key(ref *v1.PlacementRef) string { return ref.GetNamespace() + "/" + ref.GetName() }

// decide reports scores, and gives every placement its clusters.
func (s *scheduler) decide(ctx context.Context) (err error) {
	memory, scores := map[string]int64{}, map[string]int64{}
	for name, cluster := range s.clusters {
		quantity, _ := resource.ParseQuantity(cluster.GetAllocatable()["memory"]) // 0 where it is not known
		memory[name] = quantity.Value()
	}
	best := slices.SortedFunc(maps.Keys(memory), func(a, b string) int { return cmp.Or(cmp.Compare(memory[b], memory[a]), cmp.Compare(a, b)) })
	for _, name := range best[:min(len(best), 1000)] { // what one report takes
		scores[name] = memory[name]*200/max(memory[best[0]], 1) - 100
	}
	if text := fmt.Sprint(scores); len(scores) > 0 && text != s.reported {
		s.reported = text
		_, err = s.api.ReportScores(ctx, &v1.ReportScoresRequest{ScoreName: s.name, Score: "memory", Scores: scores})
	}
	for _, placement := range s.placements {
		err = errors.Join(err, s.place(ctx, placement, best))
	}
	return err
}

// place submits a choice for one placement until the hub takes it, and each 10 s: nobody tells that a binding is new.
func (s *scheduler) place(ctx context.Context, p *v1.Placement, best []string) error {
	spec, input := struct{ NumberOfClusters int }{len(best)}, fmt.Sprint(p.GetGeneration(), p.GetCurrent(), best)
	uid, now, err := p.GetRef().GetUid(), input+time.Now().Truncate(10*time.Second).String(), json.Unmarshal([]byte(p.GetSpecJson()), &spec) //nolint:musttag // whatever the case
	for applied := s.done[uid] == now; err == nil && !applied; {
		chosen := best[:min(len(best), spec.NumberOfClusters)]
		answer, failed := s.api.SubmitDecision(ctx, &v1.SubmitDecisionRequest{
			Placement: p.GetRef(), ObservedGeneration: p.GetGeneration(), Term: s.term, ClusterNames: chosen,
			RequestId: fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, input, chosen))), Explanation: "most allocatable memory first",
		})
		if code := status.Code(failed); code == codes.Aborted || code == codes.NotFound {
			return nil // it has changed, and we are about to hear of that
		}
		if err, applied = failed, answer.GetApplied(); applied && !strings.HasPrefix(s.done[uid], input) {
			slog.Info("decided", "placement", key(p.GetRef()), "clusters", chosen)
		}
		best = slices.DeleteFunc(slices.Clone(best), func(name string) bool { return slices.Contains(answer.GetRejected(), name) })
	}
	s.done[uid] = now
	return err
}
