// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/watch"
)

// Judge holds what happened on the spoke after the first n entries of the
// journal against what was wanted on the hub: each delete must have been asked
// for after the content that it took away, no content may come back that was
// replaced or deleted, and none may appear that no work ever had. The history
// must have begun before the cluster's first work, and nobody but agents may
// write these objects on the spoke.
func Judge(ctx context.Context, history *History, journal *Journal, n int, cluster string) (Findings, error) {
	if err := history.Settle(ctx); err != nil {
		return nil, err
	}
	if err := journal.Settle(ctx); err != nil {
		return nil, err
	}
	if len(history.problems) > 0 {
		return nil, fmt.Errorf("the history is not of works made by Work: %v", history.problems)
	}
	return judge(history.of(cluster), journal.Of(n, cluster)), nil
}

// object is what the judge knows of one name.
type object struct {
	at      int // the version whose content it has or had last; -1 before any
	alive   bool
	removed int // the removal that accounts for the last delete
}

func judge(versions []version, entries []Entry) Findings {
	var f finder
	objects := map[string]*object{}
	for i, e := range entries {
		o := objects[e.Name]
		if o == nil {
			o = &object{at: -1, removed: -1}
			objects[e.Name] = o
		}
		at := versionOf(versions, e.Name, e.Value)
		if e.What == watch.Deleted {
			removal := removedAfter(versions, max(at, o.at), e.Name)
			if removal < 0 {
				f.addf("unasked", "entry %d: %s (%s, %q) was deleted, and nobody had asked for that", i, e.Name, e.UID, e.Value)
			}
			o.alive, o.removed = false, removal
			continue
		}
		switch {
		case at < 0:
			f.addf("different", "entry %d: %s is %q, which no work ever wanted", i, e.Name, e.Value)
			continue
		case at < o.at:
			f.addf("resurrected", "entry %d: %s went back to %q", i, e.Name, e.Value)
		case !o.alive && at < o.removed:
			f.addf("resurrected", "entry %d: %s came back with %q after its delete", i, e.Name, e.Value)
		}
		o.alive, o.at = true, at
	}
	return f.found
}

// versionOf is the last version that wants the object with this value.
func versionOf(versions []version, name, value string) int {
	for i, at := range slices.Backward(versions) {
		if v, ok := at.objects[name]; ok && v == value && !at.deleted {
			return i
		}
	}
	return -1
}

// removedAfter is the first version after at by which the object was to go: the
// deletion of its work, or a content without it.
func removedAfter(versions []version, at int, name string) int {
	if at < 0 {
		return -1
	}
	work := versions[at].work
	for i := at + 1; i < len(versions); i++ {
		if versions[i].work != work {
			continue
		}
		if _, has := versions[i].objects[name]; versions[i].deleted || !has {
			return i
		}
	}
	return -1
}
