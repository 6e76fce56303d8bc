// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"

	adminv1 "fairlead.dev/fairlead/gen/fairlead/admin/v1"
)

const (
	// maxExplanations bounds those that are kept: of 10,000 clusters each is some MiB.
	maxExplanations = 8
	// explanationAge is how long one is kept for the pages after the first.
	explanationAge = time.Minute
)

// explanations keeps the last explanation of a placement that a person asked for and
// has not read to its end: to explain costs as much as to decide. It is safe for
// concurrent use.
type explanations struct {
	now  func() time.Time
	kept *lru.Cache // of explained, by person
}

// explained is an explanation, which nobody changes any more.
type explained struct {
	id         string
	placement  types.UID
	generation int64
	until      time.Time
	answer     *adminv1.ExplainPlacementResponse
}

func newExplanations(now func() time.Time) explanations {
	return explanations{now: now, kept: lru.New(maxExplanations)}
}

// find is the person's explanation with this ID, if it is kept and is of the
// placement as it is now.
func (e explanations) find(person, id string, placement *clusterv1beta1.Placement) (explained, bool) {
	value, _ := e.kept.Get(person)
	found, ok := value.(explained)
	return found, ok && found.id == id && found.placement == placement.UID && found.generation == placement.Generation && e.now().Before(found.until)
}

// begin makes an explanation of an answer; keep has it found.
func (e explanations) begin(placement *clusterv1beta1.Placement, answer *adminv1.ExplainPlacementResponse) explained {
	return explained{id: rand.Text(), placement: placement.UID, generation: placement.Generation, until: e.now().Add(explanationAge), answer: answer}
}

// keep keeps it instead of the person's last one.
func (e explanations) keep(person string, one explained) { e.kept.Add(person, one) }

// page is one page of it: of all clusters, or of those that may be chosen.
func (e explained) page(all bool, size int32, begin string) (*adminv1.ExplainPlacementResponse, error) {
	clusters := e.answer.GetClusters()
	if !all {
		clusters = slices.DeleteFunc(slices.Clone(clusters), func(c *adminv1.ClusterChoice) bool { return c.GetFilter() == filterClusterSet })
	}
	clusters, next, err := cut(clusters, size, begin)
	if err != nil {
		return nil, err
	}
	page := &adminv1.ExplainPlacementResponse{} // shares what nobody changes
	e.answer.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		page.ProtoReflect().Set(field, value)
		return true
	})
	page.Clusters, page.OthersHidden = clusters, !all
	if next != "" {
		page.NextPageToken = next + tokenSeparator + e.id
	}
	return page, nil
}

// tokenSeparator parts a page token: where the page begins, and of which explanation.
const tokenSeparator = "."

func parted(token string) (begin, id string) {
	begin, id, _ = strings.Cut(token, tokenSeparator)
	return begin, id
}
