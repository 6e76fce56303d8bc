// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.dev/fairlead/agent/work/apply"
)

// contest notes who undoes what this work corrects, from when it has done so that often that corrections have become rare until
// there was quiet for a while: what a person reads must not change with each correction.
func (r *remembered) contest(result apply.Result, manager string, ours types.UID, now time.Time) {
	switch {
	case r.contested == "" && result.Action == apply.Held:
		r.contested = fmt.Sprintf("%s is set otherwise again and again by %s, so it is corrected every %s only; an object belongs to one of them",
			result.Why, rival(result.Live, manager, ours), correctionEvery)
	case r.contested != "" && r.corrections.TokensAt(now) >= correctionBurst/2:
		r.contested = ""
	}
}

// rival names who else writes an object: other works that have it, or else who wrote to it last.
func rival(live *unstructured.Unstructured, manager string, ours types.UID) string {
	var others []string
	for _, owner := range live.GetOwnerReferences() {
		if apply.IsWork(owner) && owner.UID != ours {
			_, work, _ := strings.Cut(owner.Name, "-") // after the hub's hash
			others = append(others, "work "+work)
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		return strings.Join(others, ", ")
	}
	written := slices.DeleteFunc(live.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Subresource != "" || e.Manager == manager })
	if len(written) == 0 {
		return "somebody"
	}
	last := slices.MaxFunc(written, func(a, b metav1.ManagedFieldsEntry) int { return cmp.Compare(seconds(a.Time), seconds(b.Time)) })
	return fmt.Sprintf("manager %q", last.Manager)
}

func seconds(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}
