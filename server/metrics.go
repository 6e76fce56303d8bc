// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"fairlead.dev/fairlead/internal/api/v1alpha1"
)

// figures reads what the rooms know when it is scraped; nothing is counted for
// it meanwhile.
type figures struct {
	*house
	works, clusters, specs, specBytes    *prometheus.Desc
	lists, watches, malformed            *prometheus.Desc
	enrollments, certificate, highWater  *prometheus.Desc
	statusWaiting, apiserverSilence, cut *prometheus.Desc
}

func newFigures(h *house) *figures {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("fairlead_hub_"+name, help, labels, nil)
	}
	return &figures{
		house:            h,
		works:            desc("index_works", "ManifestWorks in the index."),
		clusters:         desc("index_clusters", "Clusters that have ManifestWorks."),
		specs:            desc("index_contents", "Distinct contents of ManifestWorks; equal ones are kept once."),
		specBytes:        desc("index_content_bytes", "What those take, compressed."),
		lists:            desc("index_lists_total", "Lists of ManifestWorks that were started."),
		watches:          desc("index_watches_total", "Watches of ManifestWorks that were started."),
		malformed:        desc("index_malformed_total", "ManifestWorks that were skipped because they do not parse. Expected value: 0."),
		highWater:        desc("index_resource_version", "How far the index has seen."),
		enrollments:      desc("enrollments", "Enrollments, by state.", "state"),
		certificate:      desc("certificate_expiry_seconds", "How long the hub's own certificates are still valid, and, with purpose agent-client, the first to expire of those in use by agents.", "purpose"),
		statusWaiting:    desc("statuses_waiting", "Statuses and other writes for agents that wait for the apiserver."),
		apiserverSilence: desc("apiserver_silence_seconds", "How long ago the apiserver took this replica's Lease."),
		cut:              desc("apiserver_lost", "1 while the apiserver has been silent for so long that sessions are closed."),
	}
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, to) }

// Collect implements prometheus.Collector.
func (f *figures) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	stats := f.index.Stats()
	gauge(f.works, float64(stats.Works))
	gauge(f.clusters, float64(stats.Clusters))
	gauge(f.specs, float64(stats.Specs))
	gauge(f.specBytes, float64(stats.SpecBytes))
	counter(f.lists, stats.Lists)
	counter(f.watches, stats.Watches)
	counter(f.malformed, stats.Malformed)
	gauge(f.highWater, float64(f.index.HighWater()))
	gauge(f.statusWaiting, float64(f.writer.Stats().Waiting))
	if f.sessions.Synced() {
		gauge(f.apiserverSilence, time.Since(f.sessions.LastRenew()).Seconds())
	}
	lost := 0.0
	if f.cutOff.Load() {
		lost = 1
	}
	gauge(f.cut, lost)
	if serving := f.authorities.Server().State().Certificate; serving != nil && serving.Leaf != nil {
		gauge(f.certificate, time.Until(serving.Leaf.NotAfter).Seconds(), "hub-serving")
	}
	if f.hooks != nil {
		if serving, err := f.hooks.certificate(nil); err == nil && serving.Leaf != nil {
			gauge(f.certificate, time.Until(serving.Leaf.NotAfter).Seconds(), "webhook")
		}
	}
	counts, soonest := f.byState()
	for state, n := range counts {
		gauge(f.enrollments, float64(n), string(state))
	}
	if !soonest.IsZero() {
		gauge(f.certificate, max(0, time.Until(soonest).Seconds()), "agent-client")
	}
}

// byState counts enrollments, and tells when the first certificate in use
// expires; every state is there, so that none is missing in a graph.
func (f *figures) byState() (counts map[v1alpha1.EnrollmentState]int, soonest time.Time) {
	counts = map[v1alpha1.EnrollmentState]int{
		v1alpha1.StatePending: 0, v1alpha1.StateAccepted: 0, v1alpha1.StateIssued: 0, v1alpha1.StateActive: 0,
		v1alpha1.StateDenied: 0, v1alpha1.StateExpired: 0, v1alpha1.StateDetached: 0, v1alpha1.StateRevoked: 0,
	}
	if f.admission.Load() == nil {
		return counts, soonest
	}
	var list v1alpha1.ClusterEnrollmentList
	if err := f.cache.List(context.Background(), &list, client.UnsafeDisableDeepCopy); err != nil { // reads memory
		return counts, soonest
	}
	for i := range list.Items {
		state, current := list.Items[i].Status.State, list.Items[i].Status.Current
		if state == v1alpha1.StateActive && current != nil && current.NotAfter != nil && (soonest.IsZero() || current.NotAfter.Time.Before(soonest)) {
			soonest = current.NotAfter.Time
		}
		if state == "" {
			state = v1alpha1.StatePending
		}
		counts[state]++
	}
	return counts, soonest
}
