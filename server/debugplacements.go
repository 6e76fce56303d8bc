// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/server/scheduling"
)

const (
	debugPath = "/debug/placements/"
	// maxDebugBody is the most bytes of a Placement that is simulated (PL-58).
	maxDebugBody = 1 << 20
)

// debugPlacements answers, behind the gate PlacementDebugServer, how a Placement
// would be decided now, in the JSON that OCM has for it (PL-57 to PL-60).
type debugPlacements struct {
	placements
	config *rest.Config
	log    *slog.Logger
}

// DebugPlacements serves /debug/placements/. It reads with reader, and asks the
// apiserver of config, with the caller's own token, what the caller may do.
func DebugPlacements(reader client.Reader, config *rest.Config, log *slog.Logger) http.Handler {
	return &debugPlacements{placements: newPlacements(reader), config: config, log: log}
}

// debugAnswer is the body of an answer.
type debugAnswer struct {
	Placement         *clusterv1beta1.Placement `json:"placement,omitempty"`
	Filtered          []debugFilter             `json:"filteredPipelineResults,omitempty"`
	PrioritizeResults []debugPrioritizer        `json:"prioritizeResults,omitempty"`
	AggregatedScores  []debugScore              `json:"aggregatedScores,omitempty"`
	Error             string                    `json:"error,omitempty"`
}

type debugFilter struct {
	Name             string   `json:"name"`
	FilteredClusters []string `json:"filteredClusters"`
}

type debugPrioritizer struct {
	Name   string           `json:"name"`
	Weight int64            `json:"weight"`
	Scores map[string]int64 `json:"scores"`
}

type debugScore struct {
	ClusterName string `json:"clusterName"`
	Score       int64  `json:"score"`
}

// httpError is an error with the HTTP status that it is answered with.
type httpError struct {
	status int
	text   string
}

// Error implements error.
func (e *httpError) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &httpError{status, fmt.Sprintf(format, args...)}
}

// ServeHTTP implements http.Handler.
func (d *debugPlacements) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := d.answer(w, r)
	status := http.StatusOK
	if err != nil {
		refused := &httpError{http.StatusInternalServerError, "the hub could not read what it needs; its log says why"}
		if !errors.As(err, &refused) {
			d.log.ErrorContext(r.Context(), "explaining a placement over HTTP", "error", err)
		}
		answer, status = &debugAnswer{Error: refused.text}, refused.status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // the caller may be gone
}

func (d *debugPlacements) answer(w http.ResponseWriter, r *http.Request) (*debugAnswer, error) {
	path := strings.TrimPrefix(r.URL.Path, debugPath)
	switch {
	case r.Method == http.MethodGet:
		return d.explain(r, path)
	case r.Method == http.MethodPost && path == "":
		return d.try(w, r)
	case r.Method == http.MethodPost:
		return nil, refuse(http.StatusNotFound, "no such path: a Placement to simulate is posted to %s", debugPath)
	}
	w.Header().Set("Allow", "GET, POST")
	return nil, refuse(http.StatusMethodNotAllowed, "method %s is not allowed: want GET or POST", r.Method)
}

// explain answers how a stored Placement is decided (PL-57).
func (d *debugPlacements) explain(r *http.Request, path string) (*debugAnswer, error) {
	namespace, name, _ := strings.Cut(path, "/")
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, refuse(http.StatusNotFound, "no such path: want %s<namespace>/<name>", debugPath)
	}
	if err := d.may(r, "get", namespace, name); err != nil {
		return nil, err
	}
	placement := &clusterv1beta1.Placement{}
	err := d.reader.Get(r.Context(), client.ObjectKey{Namespace: namespace, Name: name}, placement)
	if apierrors.IsNotFound(err) {
		return nil, refuse(http.StatusNotFound, "there is no placement %s/%s", namespace, name)
	}
	if err != nil {
		return nil, err
	}
	return d.describe(r.Context(), placement)
}

// try answers how the Placement in the body would be decided (PL-58).
func (d *debugPlacements) try(w http.ResponseWriter, r *http.Request) (*debugAnswer, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDebugBody))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body could not be read, or has more than %d bytes", maxDebugBody)
	}
	placement := &clusterv1beta1.Placement{}
	if err := json.Unmarshal(body, placement); err != nil || placement.Namespace == "" || placement.Name == "" {
		return nil, refuse(http.StatusBadRequest, "the body is no Placement in JSON that has a namespace and a name")
	}
	if err := d.may(r, "create", placement.Namespace, ""); err != nil {
		return nil, err
	}
	return d.describe(r.Context(), placement)
}

// may asks whether the caller may do that to placements of a namespace (PL-59).
func (d *debugPlacements) may(r *http.Request, verb, namespace, name string) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	config, err := kube.AnonymousConfigWithToken(d.config, strings.TrimSpace(token))
	if !ok || err != nil {
		return refuse(http.StatusUnauthorized, "no bearer token was given")
	}
	person, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	review, err := person.AuthorizationV1().SelfSubjectAccessReviews().Create(r.Context(), &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: clusterv1beta1.GroupName, Version: clusterv1beta1.GroupVersion.Version, Resource: "placements", Verb: verb, Namespace: namespace, Name: name,
		}},
	}, metav1.CreateOptions{})
	switch {
	case apierrors.IsUnauthorized(err):
		return refuse(http.StatusUnauthorized, "the hub's apiserver does not know this bearer token")
	case apierrors.IsForbidden(err) || err == nil && !review.Status.Allowed:
		return refuse(http.StatusForbidden, "user does not have permission to %s placements in namespace %q", verb, namespace)
	}
	return err
}

func (d *debugPlacements) describe(ctx context.Context, placement *clusterv1beta1.Placement) (*debugAnswer, error) {
	explained, err := d.simulate(ctx, placement)
	if err != nil {
		return nil, err
	}
	answer := &debugAnswer{Placement: placement}
	if explained.Misconfigured.Status == metav1.ConditionTrue {
		answer.Error = explained.Misconfigured.Message
	}
	for _, filter := range explained.Filtered() {
		answer.Filtered = append(answer.Filtered, debugFilter{Name: filter.Name, FilteredClusters: append([]string{}, filter.Clusters...)})
	}
	answer.PrioritizeResults = prioritized(&explained)
	for _, score := range explained.Scores {
		answer.AggregatedScores = append(answer.AggregatedScores, debugScore{ClusterName: score.Cluster, Score: score.Score})
	}
	return answer, nil
}

// prioritized are the scores that each prioritizer gave.
func prioritized(e *scheduling.Explanation) []debugPrioritizer {
	results := make([]debugPrioritizer, 0, len(e.Prioritizers))
	for i, p := range e.Prioritizers {
		result := debugPrioritizer{Name: p.Prioritizer, Weight: p.Weight, Scores: map[string]int64{}}
		for _, v := range e.All {
			if i < len(v.Scores) {
				result.Scores[v.Cluster] = v.Scores[i]
			}
		}
		results = append(results, result)
	}
	return results
}
