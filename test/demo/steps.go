// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "open-cluster-management.io/api/cluster/v1"

	"fairlead.dev/fairlead/test/house"
)

// work is the name of the work that the demo sends.
const work = "hello"

func (d *demo) startHub(ctx context.Context) error {
	hub, err := house.StartHub(ctx, house.HubConfig{
		Binaries: d.binaries, Dir: d.dir, Kubeconfig: d.plane.Kubeconfig(), REST: d.plane.RESTConfig(),
		Flags: []string{"--feature-gates=ManifestWorkReplicaSet=true", "--leader-elect=false"},
	})
	d.hub = hub
	if err != nil {
		return err
	}
	sayf("agents dial %s, people %s; it holds no credential of any spoke", hub.AgentAddress, hub.AdminAddress)
	return nil
}

func (d *demo) makeTokens(ctx context.Context) error {
	for _, s := range d.spokes {
		args := []string{"token", "create", s.name}
		if s.name == "spoke-2" {
			args = append(args, "--auto-accept")
		}
		out, err := d.hub.CLI(ctx, args...)
		if err != nil {
			return err
		}
		if s.join = strings.TrimSpace(out); !strings.HasPrefix(s.join, "flj1_") {
			return fmt.Errorf("«fairlead %s» printed %q, no join string", strings.Join(args, " "), out)
		}
	}
	return d.show(ctx, "token", "list")
}

func (d *demo) startAgents(ctx context.Context) error {
	for _, s := range d.spokes {
		agent, err := house.StartAgent(house.AgentConfig{Binaries: d.binaries, Dir: d.dir, Cluster: s.name, Join: s.join, Kubeconfig: s.plane.Kubeconfig()})
		if err != nil {
			return err
		}
		s.agent = agent
	}
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := house.Until(bounded, "two enrollments on the hub", func(ctx context.Context) (bool, error) {
		list, err := d.clusters.ClusterV1().ManagedClusters().List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == len(d.spokes), err
	}, d.hub.Process, d.spokes[0].agent.Process, d.spokes[1].agent.Process)
	if err != nil {
		return err
	}
	first, err := d.clusters.ClusterV1().ManagedClusters().Get(ctx, d.spokes[0].name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if first.Spec.HubAcceptsClient {
		return fmt.Errorf("%s is accepted before anybody accepted it", first.Name)
	}
	return d.show(ctx, "get", "enrollments")
}

// accept takes the pairing code from the agent's own log, as a person on the
// spoke would read it out.
func (d *demo) accept(ctx context.Context) error {
	s := d.spokes[0]
	var code string
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := house.Until(bounded, "the pairing code in the agent's log", func(context.Context) (bool, error) {
		raw, err := os.ReadFile(s.agent.Log)
		code = pairingCode.FindString(string(raw))
		return code != "", err
	}, s.agent.Process)
	if err != nil {
		return err
	}
	sayf("the agent of %s shows %s", s.name, code)
	if _, err := d.hub.CLI(ctx, "accept", s.name, "--pairing-code", "AAAA-AAAA-AAAA"); err == nil {
		return errors.New("a wrong pairing code was accepted")
	}
	sayf("a wrong pairing code is refused")
	if err := d.show(ctx, "accept", s.name, "--pairing-code", code); err != nil {
		return err
	}
	for _, s := range d.spokes {
		if err := d.available(bounded, s); err != nil {
			return err
		}
	}
	return d.show(ctx, "get", "clusters")
}

func (d *demo) available(ctx context.Context, s *spoke) error {
	return house.Until(ctx, s.name+" to be Available", func(ctx context.Context) (bool, error) {
		cluster, err := d.clusters.ClusterV1().ManagedClusters().Get(ctx, s.name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		conditions := cluster.Status.Conditions
		for _, wanted := range []string{clusterv1.ManagedClusterConditionHubAccepted, clusterv1.ManagedClusterConditionJoined, clusterv1.ManagedClusterConditionAvailable} {
			if !meta.IsStatusConditionTrue(conditions, wanted) {
				return false, fmt.Errorf("%s is not True: %+v", wanted, conditions)
			}
		}
		return true, nil
	}, d.hub.Process, s.agent.Process)
}

func (d *demo) createWork(ctx context.Context) error {
	began := time.Now()
	if err := d.show(ctx, "create", "work", work, "--clusters", strings.Join(spokeNames, ","), "-f", manifests); err != nil {
		return err
	}
	for _, s := range d.spokes {
		took, err := d.ready(ctx, s, began, 2, "Hello from the hub")
		if err != nil {
			return err
		}
		sayf("%s: Available=True, ReadyReplicas=2 reported after %s", s.name, took)
	}
	return d.show(ctx, "get", "works")
}

func (d *demo) editWork(ctx context.Context) error {
	began := time.Now()
	if err := d.edit(ctx, "3", "Hello again"); err != nil {
		return err
	}
	for _, s := range d.spokes {
		took, err := d.ready(ctx, s, began, 3, "Hello again")
		if err != nil {
			return err
		}
		sayf("%s: ConfigMap changed, ReadyReplicas=3 reported after %s", s.name, took)
	}
	return d.show(ctx, "get", "works")
}

// edit sends the manifests again with other replicas and another greeting.
func (d *demo) edit(ctx context.Context, replicas, greeting string) error {
	raw, err := os.ReadFile(filepath.Join(manifests, "hello.yaml"))
	if err != nil {
		return err
	}
	edited := strings.NewReplacer("replicas: 2", "replicas: "+replicas, "Hello from the hub", greeting).Replace(string(raw))
	file := filepath.Join(d.dir, "edited.yaml")
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		return err
	}
	return d.show(ctx, "create", "work", work, "--clusters", strings.Join(spokeNames, ","), "-f", file)
}

func (d *demo) explain(ctx context.Context) error {
	return d.show(ctx, "explain", "work", work, "--cluster", "spoke-1")
}

func (d *demo) deleteAll(ctx context.Context) error {
	if err := d.show(ctx, "delete", "work", work, "--clusters", strings.Join(spokeNames, ",")); err != nil {
		return err
	}
	if err := d.clear(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, s := range d.spokes {
		if err := d.gone(bounded, s); err != nil {
			return err
		}
		sayf("%s: Namespace, ConfigMap, Service and Deployment are gone, and so is the work on the hub", s.name)
	}
	return d.show(ctx, "get", "works")
}
