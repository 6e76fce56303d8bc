// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/fnv"
	"maps"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
)

const (
	setLabel       = workv1alpha1.ManifestWorkReplicaSetControllerNameLabelKey
	placementLabel = workv1alpha1.ManifestWorkReplicaSetPlacementNameLabelKey

	// hashed begins the label of sets whose name is too long for one. It has no dot,
	// so it is never the label of another set.
	hashed = "sha256-"
	// longestBase is how much of a set's name is in the names of its works.
	longestBase = 52
)

// LabelValue is the value of label manifestworkreplicaset by which the works of a
// set are known: "<namespace>.<name>" (MH-07), and where that is longer than a
// label may be, a digest of it (MH-08).
func LabelValue(set types.NamespacedName) string {
	plain := set.Namespace + "." + set.Name
	if len(plain) <= validation.LabelValueMaxLength {
		return plain
	}
	sum := sha256.Sum256([]byte(plain))
	return hashed + hex.EncodeToString(sum[:])[:validation.LabelValueMaxLength-len(hashed)]
}

// setOf is the set that a label's value names; false for a digest.
func setOf(label string) (types.NamespacedName, bool) {
	namespace, name, ok := strings.Cut(label, ".")
	return types.NamespacedName{Namespace: namespace, Name: name}, ok
}

// generateName is what a work's name begins with (MH-07).
func generateName(set types.NamespacedName) string { return set.Name + "-" }

// workName is the name of a set's works, the same in every cluster, so that none is
// made twice. It looks as if it came from generateName.
func workName(set types.NamespacedName) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(set.String())) // it never fails
	base := set.Name
	if len(base) > longestBase {
		base = strings.TrimRight(base[:longestBase], ".-")
	}
	return base + "-" + rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// labels are those that a set's work is to have: the set's own, and the two by
// which it is known.
func labels(set *workv1alpha1.ManifestWorkReplicaSet, label, placement string) map[string]string {
	wanted := maps.Clone(set.Labels)
	if wanted == nil {
		wanted = map[string]string{}
	}
	wanted[setLabel], wanted[placementLabel] = label, placement
	return wanted
}
