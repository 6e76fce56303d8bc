// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	workclient "open-cluster-management.io/api/client/work/clientset/versioned"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Sides are clients with every right on both apiservers.
type Sides struct {
	Hub   workclient.Interface
	Spoke kubernetes.Interface
	// Applied reads AppliedManifestWorks of the spoke.
	Applied workclient.Interface
}

// Findings are what does not fit, one a line, each with its kind first: missing,
// different, extra, status, inventory, unasked, resurrected.
type Findings []string

// Err is nil when nothing was found.
func (f Findings) Err() error {
	if len(f) == 0 {
		return nil
	}
	shown := f[:min(len(f), 20)]
	return fmt.Errorf("%d findings:\n%s", len(f), strings.Join(shown, "\n"))
}

// finder collects findings.
type finder struct{ found Findings }

func (f *finder) addf(kind, format string, args ...any) {
	f.found = append(f.found, kind+": "+fmt.Sprintf(format, args...))
}

// Compare reads all that hub and spoke have of one cluster, whose agent runs
// with the cluster's name as --agent-id, and reports each key that is not equal.
func (s Sides) Compare(ctx context.Context, cluster string) (Findings, error) {
	works, err := s.Hub.WorkV1().ManifestWorks(cluster).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the hub's works: %w", err)
	}
	live, err := s.Spoke.CoreV1().ConfigMaps(Namespace).List(ctx, metav1.ListOptions{LabelSelector: ownerLabel + "=" + cluster})
	if err != nil {
		return nil, fmt.Errorf("reading the spoke's objects: %w", err)
	}
	applied, err := s.Applied.WorkV1().AppliedManifestWorks().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the spoke's inventories: %w", err)
	}
	objects := map[string]*corev1.ConfigMap{}
	for i := range live.Items {
		objects[live.Items[i].Name] = &live.Items[i]
	}
	var f finder
	wanted := map[string]bool{}
	for i := range works.Items {
		if err := f.work(&works.Items[i], objects, wanted); err != nil {
			return nil, err
		}
	}
	for name := range objects {
		if !wanted[name] {
			f.addf("extra", "the spoke has %s, which no work wants", name)
		}
	}
	f.inventories(cluster, works.Items, applied.Items)
	f.listed(cluster, applied.Items, objects)
	slices.Sort(f.found)
	return f.found, nil
}

// work compares one work with the spoke, and the spoke with its status.
func (f *finder) work(work *workv1.ManifestWork, objects map[string]*corev1.ConfigMap, wanted map[string]bool) error {
	if work.DeletionTimestamp != nil {
		f.addf("extra", "work %s is still being deleted", work.Name)
		return nil
	}
	manifests, err := manifests(work)
	if err != nil {
		return err
	}
	told := feedback(work)
	for name, value := range manifests {
		wanted[name] = true
		object := objects[name]
		switch {
		case object == nil:
			f.addf("missing", "the spoke lacks %s of work %s", name, work.Name)
			continue
		case object.Data[valueKey] != value:
			f.addf("different", "%s is %q on the spoke, work %s wants %q", name, object.Data[valueKey], work.Name, value)
		}
		if said, ok := told[name]; !ok || said != object.Data[valueKey] {
			f.addf("status", "%s is %q on the spoke, the hub was told %q (%t)", name, object.Data[valueKey], said, ok)
		}
	}
	if len(told) != len(manifests) {
		f.addf("status", "work %s has %d manifests and a status of %d", work.Name, len(manifests), len(told))
	}
	for _, kind := range []string{workv1.WorkApplied, workv1.WorkAvailable} {
		c := meta.FindStatusCondition(work.Status.Conditions, kind)
		if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != work.Generation {
			f.addf("status", "work %s of generation %d has %s %+v", work.Name, work.Generation, kind, c)
		}
	}
	return nil
}

// feedback is what the hub was told of each object.
func feedback(work *workv1.ManifestWork) map[string]string {
	told := map[string]string{}
	for i := range work.Status.ResourceStatus.Manifests {
		manifest := &work.Status.ResourceStatus.Manifests[i]
		for _, value := range manifest.StatusFeedbacks.Values {
			if value.Name == feedbackOf && value.Value.String != nil {
				told[manifest.ResourceMeta.Name] = *value.Value.String
			}
		}
	}
	return told
}

// inventories looks for AppliedManifestWorks without work, and works without.
func (f *finder) inventories(cluster string, works []workv1.ManifestWork, applied []workv1.AppliedManifestWork) {
	known := map[string]bool{}
	for i := range works {
		known[works[i].Name] = false
	}
	for i := range applied {
		spec := applied[i].Spec
		if spec.AgentID != cluster {
			continue
		}
		if _, wanted := known[spec.ManifestWorkName]; !wanted {
			f.addf("extra", "the spoke has AppliedManifestWork %s, whose work %s is gone", applied[i].Name, spec.ManifestWorkName)
			continue
		}
		known[spec.ManifestWorkName] = true
	}
	for name, ok := range known {
		if !ok {
			f.addf("missing", "work %s has no AppliedManifestWork", name)
		}
	}
}

// listed looks for objects that no AppliedManifestWork lists, so that nobody
// would ever remove them, and for entries of objects that are not there.
func (f *finder) listed(cluster string, applied []workv1.AppliedManifestWork, objects map[string]*corev1.ConfigMap) {
	known := map[string]bool{}
	for i := range applied {
		if applied[i].Spec.AgentID != cluster {
			continue
		}
		for _, entry := range applied[i].Status.AppliedResources {
			known[entry.Name] = true
			if object := objects[entry.Name]; object == nil || string(object.UID) != entry.UID {
				f.addf("inventory", "AppliedManifestWork %s lists %s (%s), which is not there", applied[i].Name, entry.Name, entry.UID)
			}
		}
	}
	for name := range objects {
		if !known[name] {
			f.addf("inventory", "the spoke has %s, which no AppliedManifestWork lists", name)
		}
	}
}
