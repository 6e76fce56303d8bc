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

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
)

// ages is the short form of when each condition of a status became what it is. Most manifests share theirs, so each set of
// conditions is written once and manifests name it by its index.
type ages struct {
	// Of is the UID of the work, if a manifest of it is complete: that is true of no other work of its name.
	Of        string         `json:"of,omitempty"`
	Work      []string       `json:"work"`
	Sets      [][]string     `json:"sets,omitempty"`
	Manifests map[string]int `json:"manifests,omitempty"`
}

// maxAges bounds the ages of manifests, since all annotations of an object share 256 KiB.
const maxAges = 128 << 10

// EncodeAges returns what DecodeAges needs to know how long the conditions of status, that of the work with the UID, have been
// what they are. Equal ages have equal encodings.
func EncodeAges(status workv1.ManifestWorkStatus, uid string) (string, error) {
	short := ages{Work: encodeConditions(status.Conditions), Manifests: map[string]int{}}
	for _, manifest := range status.ResourceStatus.Manifests {
		set := encodeConditions(manifest.Conditions)
		at := slices.IndexFunc(short.Sets, func(known []string) bool { return slices.Equal(known, set) })
		if at < 0 {
			at = len(short.Sets)
			short.Sets = append(short.Sets, set)
		}
		short.Manifests[identityOf(manifest.ResourceMeta).short()] = at
		if meta.IsStatusConditionTrue(manifest.Conditions, workv1.ManifestComplete) {
			short.Of = uid
		}
	}
	encoded, err := json.Marshal(short)
	if err == nil && len(encoded) > maxAges {
		encoded, err = json.Marshal(ages{Work: short.Work})
	}
	if err != nil {
		return "", fmt.Errorf("encoding the ages of conditions: %w", err)
	}
	return string(encoded), nil
}

// DecodeAges returns a status with, for each of the manifests described by metas, the conditions that encoded knows, as far as
// their type, status and time. What does not decode is left out: ages are worth keeping, not worth failing for. That manifests
// are complete counts for the work with the UID alone.
func DecodeAges(encoded, uid string, metas []workv1.ManifestResourceMeta) workv1.ManifestWorkStatus {
	status := workv1.ManifestWorkStatus{}
	short := ages{}
	if err := json.Unmarshal([]byte(encoded), &short); err != nil {
		return status
	}
	status.Conditions = decodeConditions(short.Work)
	for _, resource := range metas {
		at, ok := short.Manifests[identityOf(resource).short()]
		if !ok || at < 0 || at >= len(short.Sets) {
			continue
		}
		status.ResourceStatus.Manifests = append(status.ResourceStatus.Manifests, workv1.ManifestCondition{
			ResourceMeta: resource, Conditions: decodeConditions(short.Sets[at]),
		})
	}
	if short.Of != uid {
		return Incomplete(status)
	}
	return status
}

// Incomplete returns status without what it says of being complete: it is that of another work. status is not changed.
func Incomplete(status workv1.ManifestWorkStatus) workv1.ManifestWorkStatus {
	status = *status.DeepCopy()
	meta.RemoveStatusCondition(&status.Conditions, workv1.WorkComplete)
	for i := range status.ResourceStatus.Manifests {
		meta.RemoveStatusCondition(&status.ResourceStatus.Manifests[i].Conditions, workv1.ManifestComplete)
	}
	return status
}

// Completed returns, by index, which of the manifests described by metas status says are complete.
func Completed(status workv1.ManifestWorkStatus, metas []workv1.ManifestResourceMeta) map[int]bool {
	complete := map[identity]bool{}
	for _, m := range status.ResourceStatus.Manifests {
		if meta.IsStatusConditionTrue(m.Conditions, workv1.ManifestComplete) {
			complete[identityOf(m.ResourceMeta)] = true
		}
	}
	found := map[int]bool{}
	for i, resource := range metas {
		if complete[identityOf(resource)] {
			found[i] = true
		}
	}
	return found
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
