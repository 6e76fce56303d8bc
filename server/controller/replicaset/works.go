// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	workv1alpha1 "open-cluster-management.io/api/work/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/server/rollout"
)

// canonical is a spec as JSON with sorted keys, to compare specs by.
func canonical(spec *workv1.ManifestWorkSpec) ([]byte, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encoding a ManifestWorkSpec: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("decoding a ManifestWorkSpec: %w", err)
	}
	return json.Marshal(value)
}

// assign sorts the works by what becomes of them.
func (o *round) assign(works []Work) {
	o.works, o.leaving, o.kept = make(map[string]*Work, len(works)), map[string]bool{}, map[string][]*Work{}
	ours := workName(o.key())
	slices.SortFunc(works, func(a, b Work) int { return strings.Compare(a.Cluster+"/"+a.Name, b.Cluster+"/"+b.Name) })
	for i := range works {
		w := &works[i]
		f := o.by[w.Cluster]
		switch {
		case w.Deleting:
			o.leaving[w.Cluster] = true
		case w.Placement == "": // MH-26
			o.other = append(o.other, w)
		case f == nil && o.undecided(w.Placement):
			o.kept[w.Placement] = append(o.kept[w.Placement], w)
		case f == nil:
			o.other = append(o.other, w)
		default:
			have := o.works[w.Cluster]
			if have == nil {
				o.works[w.Cluster] = w
				continue
			}
			if rank(w, f.name, ours) > rank(have, f.name, ours) {
				o.works[w.Cluster], w = w, have
			}
			o.other = append(o.other, w)
		}
	}
}

// rank says which of two works of one cluster stays.
func rank(w *Work, placement, name string) (points int) {
	if w.Placement == placement {
		points += 2
	}
	if w.Name == name {
		points++
	}
	return points
}

func (o *round) undecided(placement string) bool {
	return slices.ContainsFunc(o.refs, func(f *ref) bool { return f.name == placement && f.missing != "" })
}

// writing says of which placement the decisions are being written; "" of none.
func (o *round) writing() string {
	for _, f := range o.refs {
		if f.writing != "" {
			return f.writing
		}
	}
	return ""
}

func (o *round) key() types.NamespacedName { return client.ObjectKeyFromObject(o.set) }

// plan decides which clusters of a ref get the template now.
func (o *round) plan(f *ref, now time.Time) {
	f.progress = make(map[string]rollout.Progress, len(f.own))
	for _, cluster := range f.own {
		w := o.works[cluster]
		if w == nil && o.leaving[cluster] {
			o.block(cluster, nil)
		}
		b, blocked := o.note.blocked[cluster]
		switch {
		case w != nil && o.isCurrent(w):
			f.progress[cluster] = o.progress(w)
		case blocked:
			f.progress[cluster] = rollout.Progress{State: rollout.Blocked, Since: b.since, Tried: b.tried}
		}
	}
	f.plan, f.problem = rollout.Decide(rollout.Input{
		Strategy: f.strategy, ClustersPerGroup: f.perGroup, Groups: f.groups, Progress: f.progress, Now: now,
	})
}

// block takes note that a cluster's turn has come and that it cannot have the
// content, nil because of what is there: others have theirs then.
func (o *round) block(cluster string, err error) {
	b, known := o.note.blocked[cluster]
	b.tried, b.err = o.cfg.Clock.Now(), err
	if !known {
		b.since, o.fresh = b.tried, true
	}
	o.note.blocked[cluster] = b
}

// progress is how far a work is that has the template (MH-22). A condition may have been as it is for
// longer than the work has had its content: what counts began with that.
func (o *round) progress(w *Work) rollout.Progress {
	p := rollout.Progress{State: rollout.Applying, Since: time.Unix(w.Written, 0)}
	if !w.Applied.True() || w.Applied.Generation != w.Generation || w.Progressing.Generation != w.Generation {
		return p
	}
	switch {
	case w.Progressing.False():
		p.State = rollout.Succeeded
	case w.Progressing.True() && w.Degraded.True() && w.Degraded.Generation == w.Generation:
		p.State = rollout.Failed
	case w.Progressing.True():
		p.State = rollout.Progressing
	default:
		return p
	}
	if since := time.Unix(w.Progressing.Since, 0); since.After(p.Since) {
		p.Since = since
	}
	return p
}

// isCurrent tells whether a work has the template.
func (o *round) isCurrent(w *Work) bool {
	if same, known := o.current[w.Spec]; known {
		return same
	}
	raw, ok := o.cfg.Works.Spec(w.Cluster, w.Name, w.Spec)
	if !ok {
		return false // it is changing, and a new round comes of that
	}
	var spec workv1.ManifestWorkSpec
	same := false
	if json.Unmarshal(raw, &spec) == nil {
		form, err := canonical(&spec)
		same = err == nil && bytes.Equal(form, o.template)
	}
	o.current[w.Spec] = same
	return same
}

// isLabelled tells whether a work has the labels that it is to have; it may have
// more.
func (o *round) isLabelled(w *Work, placement string) bool {
	key := placement + " " + w.Labels
	if right, known := o.labelled[key]; known {
		return right
	}
	have, right := map[string]string{}, true
	if json.Unmarshal([]byte(w.Labels), &have) != nil {
		right = false
	}
	for name, value := range labels(o.set, o.label, placement) {
		if got, ok := have[name]; !ok || got != value {
			right = false
		}
	}
	o.labelled[key] = right
	return right
}

// writes are the works to make and to patch, in order of their turn.
func (o *round) writes(ctx context.Context) (writes []write) {
	for _, f := range o.refs {
		if f.problem != nil {
			continue
		}
		turn := make(map[string]bool, len(f.plan.Apply))
		for _, cluster := range slices.Concat(f.plan.Apply, f.plan.Retry) {
			turn[cluster] = true
			w := o.works[cluster]
			switch {
			case w != nil:
				writes = append(writes, write{cluster: cluster, placement: f.name, work: w, spec: true})
			case o.leaving[cluster]:
			case o.goes(ctx, cluster):
				o.block(cluster, nil)
			default:
				writes = append(writes, write{cluster: cluster, placement: f.name, spec: true})
			}
		}
		for _, cluster := range f.own {
			if w := o.works[cluster]; w != nil && !turn[cluster] && !o.isLabelled(w, f.name) {
				writes = append(writes, write{cluster: cluster, placement: f.name, work: w})
			}
		}
	}
	return writes
}

// goes tells whether a cluster is being removed: nothing new is made for it.
func (o *round) goes(ctx context.Context, name string) bool {
	cluster := &clusterv1.ManagedCluster{}
	err := o.client.Get(ctx, client.ObjectKey{Name: name}, cluster)
	return err == nil && !cluster.DeletionTimestamp.IsZero()
}

// removals are the works that are to go. Works of clusters that no placement
// chooses go only if the apiserver says so too, not just the cache (MH-10), and no
// decision that is being written may yet choose them.
func (o *round) removals(ctx context.Context) (removals []write, err error) {
	live := &round{set: &workv1alpha1.ManifestWorkReplicaSet{}}
	for _, w := range o.other {
		if w.Placement != "" && o.by[w.Cluster] == nil {
			if err := o.readLive(ctx, live); err != nil {
				return nil, err
			}
			if live.by[w.Cluster] != nil || live.undecided(w.Placement) || live.writing() != "" {
				continue // the cache is yet to see it, or what ends it: a new round comes of that
			}
		}
		removals = append(removals, write{cluster: w.Cluster, work: w, remove: true})
	}
	return removals, nil
}

// readLive asks the apiserver, once in a round, which clusters are chosen.
func (o *round) readLive(ctx context.Context, live *round) (err error) {
	if live.by != nil {
		return nil
	}
	if err := o.live.Get(ctx, o.key(), live.set); err != nil {
		return err
	}
	if live.refs, err = o.readRefs(ctx, o.live, live.set); err != nil {
		return err
	}
	live.by = claim(live.refs)
	return nil
}
