// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package condition

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
)

// ages is the short form of when each condition of a status became what it is. Most manifests share theirs, so each set of
// conditions is written once and manifests name it by its index.
type ages struct {
	Work      []string       `json:"work"`
	Sets      [][]string     `json:"sets,omitempty"`
	Manifests map[string]int `json:"manifests,omitempty"`
}

// EncodeAges returns what DecodeAges needs to know how long the conditions of status have been what they are. Equal ages have
// equal encodings.
func EncodeAges(status workv1.ManifestWorkStatus) (string, error) {
	short := ages{Work: encodeConditions(status.Conditions), Manifests: map[string]int{}}
	for _, manifest := range status.ResourceStatus.Manifests {
		set := encodeConditions(manifest.Conditions)
		at := slices.IndexFunc(short.Sets, func(known []string) bool { return slices.Equal(known, set) })
		if at < 0 {
			at = len(short.Sets)
			short.Sets = append(short.Sets, set)
		}
		short.Manifests[identityOf(manifest.ResourceMeta).short()] = at
	}
	encoded, err := json.Marshal(short)
	if err != nil {
		return "", fmt.Errorf("encoding the ages of conditions: %w", err)
	}
	return string(encoded), nil
}

// DecodeAges returns a status with, for each of the manifests described by metas, the conditions that encoded knows, as far as
// their type, status and time. What does not decode is left out: ages are worth keeping, not worth failing for.
func DecodeAges(encoded string, metas []workv1.ManifestResourceMeta) workv1.ManifestWorkStatus {
	status := workv1.ManifestWorkStatus{}
	short := ages{}
	if err := json.Unmarshal([]byte(encoded), &short); err != nil {
		return status
	}
	status.Conditions = decodeConditions(short.Work)
	for _, meta := range metas {
		at, ok := short.Manifests[identityOf(meta).short()]
		if !ok || at < 0 || at >= len(short.Sets) {
			continue
		}
		status.ResourceStatus.Manifests = append(status.ResourceStatus.Manifests, workv1.ManifestCondition{
			ResourceMeta: meta, Conditions: decodeConditions(short.Sets[at]),
		})
	}
	return status
}

func encodeConditions(conditions []metav1.Condition) []string {
	encoded := make([]string, 0, len(conditions))
	for _, c := range conditions {
		encoded = append(encoded, fmt.Sprintf("%s=%s@%d", c.Type, c.Status, c.LastTransitionTime.Unix()))
	}
	slices.Sort(encoded)
	return encoded
}

func decodeConditions(encoded []string) []metav1.Condition {
	var conditions []metav1.Condition
	for _, text := range encoded {
		kind, rest, ok := strings.Cut(text, "=")
		if !ok {
			continue
		}
		status, at, ok := strings.Cut(rest, "@")
		if !ok {
			continue
		}
		seconds, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			continue
		}
		conditions = append(conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionStatus(status), LastTransitionTime: metav1.NewTime(time.Unix(seconds, 0).UTC()),
		})
	}
	return conditions
}

// short is a name for an identity that is as good as unique within one work.
func (i identity) short() string {
	hash := fnv.New64a()
	for _, part := range []string{i.group, i.kind, i.namespace, i.name} {
		_, _ = hash.Write([]byte(part + "\n"))
	}
	return strconv.FormatUint(hash.Sum64(), 36)
}
