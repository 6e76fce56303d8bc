// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/test/house"
)

// choices is the folder of placements and replica sets that the demo sends, and
// apps the namespace that they are in.
const (
	choices = "test/demo/choose"
	apps    = "web"
)

// kubectl runs kubectl on the hub and prints what a user would see.
func (d *demo) kubectl(ctx context.Context, args ...string) error {
	out, err := d.plane.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	fmt.Printf("    $ kubectl %s\n", strings.Join(args, " "))
	for line := range strings.Lines(out) {
		fmt.Print("      ", line)
	}
	return nil
}

// choose lets a Placement choose one of two clusters that both would do, and a
// replica set send its work there.
func (d *demo) choose(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	label := append([]string{"label", "--overwrite", "managedclusters"}, spokeNames...)
	if err := d.kubectl(ctx, append(label, "cluster.open-cluster-management.io/clusterset=fleet", "tier=prod")...); err != nil {
		return err
	}
	err := d.kubectl(ctx, "apply", "-f", filepath.Join(choices, "placements.yaml"), "-f", filepath.Join(choices, "shop.yaml"))
	if err != nil {
		return err
	}
	if err := d.moved(ctx, d.spokes[0], d.spokes[1]); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "get", "placements,manifestworkreplicasets", "-n", apps); err != nil {
		return err
	}
	return d.show(ctx, "explain", "placement", apps+"/one")
}

// move takes a label away, and sees the work follow the choice.
func (d *demo) move(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	if err := d.kubectl(ctx, "label", "managedcluster", d.spokes[0].name, "tier-"); err != nil {
		return err
	}
	if err := d.moved(ctx, d.spokes[1], d.spokes[0]); err != nil {
		return err
	}
	sayf("the work has moved, %s after the label was taken away", time.Since(began).Round(10*time.Millisecond))
	return d.show(ctx, "explain", "placement", apps+"/one")
}

// moved waits until the placement has chosen the one cluster alone, and the
// replica set's work is on it and on no other.
func (d *demo) moved(ctx context.Context, to, from *spoke) error {
	err := house.Until(ctx, "placement one to choose "+to.name, func(ctx context.Context) (bool, error) {
		chosen, err := d.chosen(ctx, "one")
		return err == nil && slices.Equal(chosen, []string{to.name}), errors.Join(err, fmt.Errorf("it has chosen %q", chosen))
	}, d.hub.Process)
	if err != nil {
		return err
	}
	sayf("the placement has chosen %s", to.name)
	err = house.Until(ctx, "the work of replica set shop on "+to.name+" alone", func(ctx context.Context) (bool, error) {
		_, errTo := to.kube.CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(ctx, "shop", metav1.GetOptions{})
		_, errFrom := from.kube.CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(ctx, "shop", metav1.GetOptions{})
		return errTo == nil && apierrors.IsNotFound(errFrom), fmt.Errorf("on %s: %w, on %s: %w", to.name, errTo, from.name, errFrom)
	}, d.hub.Process, to.agent.Process, from.agent.Process)
	if err != nil {
		return err
	}
	sayf("%s has the ConfigMap of the replica set, %s has not", to.name, from.name)
	return nil
}

// chosen reads a placement's decisions as any consumer would.
func (d *demo) chosen(ctx context.Context, placement string) ([]string, error) {
	list, err := d.clusters.ClusterV1beta1().PlacementDecisions(apps).List(ctx, metav1.ListOptions{LabelSelector: clusterv1beta1.PlacementLabel + "=" + placement})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, decision := range list.Items {
		for _, c := range decision.Status.Decisions {
			names = append(names, c.ClusterName)
		}
	}
	return names, nil
}

// rollOut sends a replica set to both clusters, one after the other, and then a
// change of it.
func (d *demo) rollOut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	file := filepath.Join(choices, "banner.yaml")
	if err := d.oneByOne(ctx, "banner:1", file); err != nil {
		return err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	file = filepath.Join(d.dir, "banner.yaml")
	if err := os.WriteFile(file, bytes.ReplaceAll(raw, []byte("banner:1"), []byte("banner:2")), 0o600); err != nil {
		return err
	}
	if err := d.oneByOne(ctx, "banner:2", file); err != nil {
		return err
	}
	return d.kubectl(ctx, "get", "manifestworkreplicasets", "-n", apps)
}

// oneByOne applies the replica set and follows its works on the hub, in the
// order in which its apiserver stored them: no cluster may get what the marker
// names before the one ahead of it has it rolled out.
func (d *demo) oneByOne(ctx context.Context, marker, file string) error {
	follow, err := d.works.WorkV1().ManifestWorks(metav1.NamespaceAll).Watch(ctx, metav1.ListOptions{
		LabelSelector: "work.open-cluster-management.io/manifestworkreplicaset=" + apps + ".banner",
	})
	if err != nil {
		return err
	}
	defer follow.Stop()
	if err := d.kubectl(ctx, "apply", "-f", file); err != nil {
		return err
	}
	began := time.Now()
	var begun, ended []string
	for event := range follow.ResultChan() {
		stored, ok := event.Object.(*workv1.ManifestWork)
		if !ok {
			return fmt.Errorf("the watch of works says %T: %v", event.Object, event.Object)
		}
		if !carries(stored, marker) || slices.Contains(ended, stored.Namespace) {
			continue
		}
		if !slices.Contains(begun, stored.Namespace) {
			begun = append(begun, stored.Namespace)
		}
		if len(begun)-len(ended) > 1 {
			return fmt.Errorf("%s was sent %s before %s had it rolled out", stored.Namespace, marker, begun[len(ended)])
		}
		if succeeded(stored) {
			ended = append(ended, stored.Namespace)
			sayf("%s has %s rolled out after %s", stored.Namespace, marker, time.Since(began).Round(10*time.Millisecond))
		}
		if len(ended) == len(d.spokes) {
			return nil
		}
	}
	return fmt.Errorf("the watch of works ended when %q had got %s and %q had it rolled out: %w", begun, marker, ended, ctx.Err())
}

func carries(stored *workv1.ManifestWork, marker string) bool {
	return slices.ContainsFunc(stored.Spec.Workload.Manifests, func(m workv1.Manifest) bool {
		return bytes.Contains(m.Raw, []byte(marker))
	})
}

// succeeded tells whether the spoke says, of this very generation, that what
// the work has is applied and nothing of it is still rolling out.
func succeeded(stored *workv1.ManifestWork) bool {
	for kind, wanted := range map[string]metav1.ConditionStatus{workv1.WorkApplied: metav1.ConditionTrue, workv1.WorkProgressing: metav1.ConditionFalse} {
		c := meta.FindStatusCondition(stored.Status.Conditions, kind)
		if c == nil || c.Status != wanted || c.ObservedGeneration != stored.Generation {
			return false
		}
	}
	return true
}

// clear deletes the replica sets, and sees their works and objects go.
func (d *demo) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := d.kubectl(ctx, "delete", "manifestworkreplicasets", "-n", apps, "--all"); err != nil {
		return err
	}
	for _, s := range d.spokes {
		err := house.Until(ctx, "nothing of the replica sets on "+s.name, func(ctx context.Context) (bool, error) {
			works, err := d.works.WorkV1().ManifestWorks(s.name).List(ctx, metav1.ListOptions{LabelSelector: "work.open-cluster-management.io/manifestworkreplicaset"})
			if err != nil || len(works.Items) > 0 {
				return false, errors.Join(err, fmt.Errorf("works on the hub: %d", len(works.Items)))
			}
			_, errBanner := s.kube.AppsV1().Deployments(metav1.NamespaceDefault).Get(ctx, "banner", metav1.GetOptions{})
			_, errShop := s.kube.CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(ctx, "shop", metav1.GetOptions{})
			return apierrors.IsNotFound(errBanner) && apierrors.IsNotFound(errShop), fmt.Errorf("the Deployment banner: %v, the ConfigMap shop: %v", errBanner, errShop) //nolint:errorlint // either may be nil: then it is there
		}, d.hub.Process, s.agent.Process)
		if err != nil {
			return err
		}
		sayf("%s: nothing of the replica sets is left, and none of their works on the hub", s.name)
	}
	return nil
}
