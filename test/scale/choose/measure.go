// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
)

// measure takes all figures.
func (f *fleet) measure(changes int) ([]row, error) {
	if changes > len(f.clusters) {
		return nil, errors.New("there are fewer clusters than changes to make")
	}
	before := heap()
	began := time.Now()
	f.load()
	rows := []row{{what: fmt.Sprintf("%d clusters and their scores come in", len(f.clusters)), took: time.Since(began)}}
	began = time.Now()
	for _, p := range f.placements {
		f.world.PutPlacement(p)
	}
	first, err := f.decide(true)
	if err != nil {
		return nil, err
	}
	all := time.Since(began)
	rows = append(rows, row{what: fmt.Sprintf("all %d placements are decided for the first time", len(f.placements)), took: all, decided: float64(first), all: all})

	again, err := f.settle()
	if err != nil {
		return nil, err
	}
	rows = append(rows, row{what: "… again, as their own decisions come back", took: again.took, decided: again.decided, all: all})
	for _, c := range f.changes() {
		one, err := f.each(changes, c.make)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.what, err)
		}
		rows = append(rows, row{what: c.what, took: one.took, decided: one.decided, all: all})
	}
	rows = append(rows, f.explain(all))
	used := heap() - before
	return append(rows, row{
		what: "memory of the World, without the clusters themselves",
		note: fmt.Sprintf("%.1f MiB, %d bytes for a cluster (its object: %d)", float64(used)/(1<<20), used/uint64(len(f.clusters)), f.objects/uint64(len(f.clusters))),
	}), nil
}

// settle decides until nothing is dirty; the time is of the first round.
func (f *fleet) settle() (first row, err error) {
	began := time.Now()
	n, err := f.decide(true)
	first = row{took: time.Since(began), decided: float64(n)}
	for range 10 {
		if n == 0 || err != nil {
			return first, err
		}
		n, err = f.decide(true)
	}
	return first, errors.New("decisions do not come to rest")
}

// each makes a change to so many clusters, one after the other, and decides what
// it made dirty. The mean of them is the figure.
func (f *fleet) each(changes int, change func(i int)) (row, error) {
	var took time.Duration
	decided := 0
	for i := range changes {
		began := time.Now()
		change(i * len(f.clusters) / changes)
		n, err := f.decide(false)
		if err != nil {
			return row{}, err
		}
		took += time.Since(began)
		decided += n
	}
	return row{took: took / time.Duration(changes), decided: float64(decided) / float64(changes)}, nil
}

type change struct {
	what string
	make func(i int)
}

func (f *fleet) changes() []change {
	edit := func(do func(c *clusterv1.ManagedCluster)) func(int) {
		return func(i int) {
			c := f.clusters[i].DeepCopy()
			do(c)
			f.clusters[i] = c
			f.world.PutCluster(c)
		}
	}
	return []change{
		{"a cluster's status is written and says the same", edit(func(c *clusterv1.ManagedCluster) { c.ResourceVersion += "1" })},
		{"a label changes that no placement asks for", edit(func(c *clusterv1.ManagedCluster) { c.Labels["vendor"] += "x" })},
		{"a label changes, and the cluster leaves some placements for others", edit(func(c *clusterv1.ManagedCluster) {
			if c.Labels["cell"] == "cell-3" {
				c.Labels["cell"] = "cell-4"
				return
			}
			c.Labels["cell"] = "cell-3"
		})},
		{"a cluster becomes unreachable", edit(func(c *clusterv1.ManagedCluster) {
			c.Spec.Taints = []clusterv1.Taint{{Key: clusterv1.ManagedClusterTaintUnreachable, Effect: clusterv1.TaintEffectNoSelect, TimeAdded: metav1.NewTime(f.now)}}
		})},
		{"a score changes", func(i int) { f.putScore(i, 77) }},
	}
}

// explain explains the first placement.
func (f *fleet) explain(all time.Duration) row {
	p := f.placements[0]
	began := time.Now()
	f.world.Explain(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, f.now)
	return row{what: "one placement is explained, cluster by cluster", took: time.Since(began), decided: 1, all: all}
}
