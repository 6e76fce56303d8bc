// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	schedulerv1 "fairlead.dev/fairlead/gen/fairlead/scheduler/v1"
	"fairlead.dev/fairlead/internal/identity"
	"fairlead.dev/fairlead/internal/wire/reason"
	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

const (
	// maxScores bounds the clusters of one report, and scoreWrites how many of them
	// are written at a time.
	maxScores   = 1000
	scoreWrites = 16
	// maxScore is the best score that there is; the worst is as far below 0 (PL-27).
	maxScore = 100
	// maxScoreName leaves room in the name of a field manager, which has at most
	// 128 bytes.
	maxScoreName = 100
	// scoreManager begins the name of the field manager of a score: each score has
	// its own, so that whoever writes one leaves the others of the object alone.
	scoreManager = "fairlead-score-"
)

// ReportScores writes one score of many clusters, each into the cluster's
// AddOnPlacementScore of that name, whose other scores stay. The caller needs the
// right to do so in the clusters' namespaces; clusters where it has none, or that
// there are not, come back. A repeat writes nothing.
func (s *Service) ReportScores(ctx context.Context, r *schedulerv1.ReportScoresRequest) (*schedulerv1.ReportScoresResponse, error) {
	who, err := s.callers.Of(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.checkScores(r); err != nil {
		return nil, err
	}
	var (
		mu        sync.Mutex
		rejected  []string
		forbidden error
	)
	reject := func(cluster string, why error) {
		mu.Lock()
		defer mu.Unlock()
		rejected, forbidden = append(rejected, cluster), why
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(scoreWrites)
	for cluster, value := range r.GetScores() {
		group.Go(func() error {
			err := s.score(inner, who, cluster, value, r)
			if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
				reject(cluster, err)
				return nil
			}
			if err != nil {
				return person.Error(err, "writing the score of cluster %q", cluster)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if apierrors.IsForbidden(forbidden) && len(rejected) == len(r.GetScores()) {
		return nil, person.Error(forbidden, "writing scores")
	}
	slices.Sort(rejected)
	s.audit(ctx, deed{"ReportScores", who.Name, nil, len(r.GetScores()) - len(rejected)}, "score", r.GetScoreName()+"/"+r.GetScore(), "rejected", len(rejected))
	return &schedulerv1.ReportScoresResponse{Rejected: rejected}, nil
}

func (s *Service) checkScores(r *schedulerv1.ReportScoresRequest) error {
	if problems := validation.IsDNS1123Subdomain(r.GetScoreName()); len(problems) > 0 {
		return rpcerr.New(codes.InvalidArgument, reason.InvalidName, "score_name %q cannot be the name of an AddOnPlacementScore: %s", r.GetScoreName(), problems[0])
	}
	unprintable := strings.ContainsFunc(r.GetScore(), func(c rune) bool { return !unicode.IsPrint(c) })
	if n := len(r.GetScore()); n == 0 || n > maxScoreName || unprintable {
		return invalid("score %q has to be 1 to %d bytes of text", r.GetScore(), maxScoreName)
	}
	if n := len(r.GetScores()); n == 0 || n > maxScores {
		return invalid("scores of %d clusters: give 1 to %d in a call", n, maxScores)
	}
	for _, cluster := range slices.Sorted(maps.Keys(r.GetScores())) {
		if err := identity.ValidateClusterName(cluster); err != nil {
			return rpcerr.New(codes.InvalidArgument, reason.InvalidName, "scores: %v", err)
		}
		if value := r.GetScores()[cluster]; value < -maxScore || value > maxScore {
			return invalid("scores[%q] is %d, not between %d and %d", cluster, value, -maxScore, maxScore)
		}
	}
	until := r.GetValidUntil()
	if until != nil && (until.CheckValid() != nil || !until.AsTime().After(s.Now())) {
		return invalid("valid_until %s is not in the future", until.AsTime().Format(time.RFC3339))
	}
	return nil
}

// score writes one cluster's, with the caller's own credentials.
func (s *Service) score(ctx context.Context, who *person.Person, cluster string, value int64, r *schedulerv1.ReportScoresRequest) error {
	if err := s.Cache.Get(ctx, client.ObjectKey{Name: cluster}, &clusterv1.ManagedCluster{}); err != nil {
		return err
	}
	wanted := map[string]any{"scores": []any{map[string]any{"name": r.GetScore(), "value": value}}}
	if until := r.GetValidUntil(); until != nil {
		wanted["validUntil"] = until.AsTime().UTC().Format(time.RFC3339)
	}
	object := scoreObject(r.GetScoreName(), cluster)
	options := metav1.ApplyOptions{FieldManager: scoreManager + r.GetScore(), Force: true}
	scores := who.Dynamic.Resource(addOnPlacementScores).Namespace(cluster)
	object.Object["status"] = wanted
	err := applyScore(ctx, scores, object, options)
	if !apierrors.IsNotFound(err) {
		return err
	}
	if _, err := scores.Apply(ctx, object.GetName(), scoreObject(r.GetScoreName(), cluster), options); err != nil {
		return err
	}
	return applyScore(ctx, scores, object, options)
}

func applyScore(ctx context.Context, scores dynamic.ResourceInterface, object *unstructured.Unstructured, options metav1.ApplyOptions) error {
	_, err := scores.ApplyStatus(ctx, object.GetName(), object, options)
	return err
}

func scoreObject(name, cluster string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetAPIVersion(clusterv1alpha1.GroupVersion.String())
	object.SetKind("AddOnPlacementScore")
	object.SetName(name)
	object.SetNamespace(cluster)
	return object
}
