// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package deploy embeds what gets installed into clusters: OCM's CRDs and those of
// SIG Multicluster's Cluster Inventory API, byte for byte as their modules ship
// them, our own CRDs, the RBAC of the hub, and the agent with its RBAC.
// Files in, bytes out: nothing here talks to a cluster.
package deploy

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed crds hub agent
var files embed.FS

// hubCRDs are the kinds that the hub serves. Of the add-on kinds v1alpha1 is
// installed alone: the files with v1beta1 beside it need a conversion webhook.
func hubCRDs() []string {
	return []string{
		"crds/fairlead/fairlead.dev_clusterenrollments.yaml",
		"crds/ocm/addon/v1alpha1/0000_00_addon.open-cluster-management.io_clustermanagementaddons.crd.yaml",
		"crds/ocm/addon/v1alpha1/0000_01_addon.open-cluster-management.io_managedclusteraddons.crd.yaml",
		"crds/ocm/addon/v1alpha1/0000_02_addon.open-cluster-management.io_addondeploymentconfigs.crd.yaml",
		"crds/ocm/addon/v1alpha1/0000_03_addon.open-cluster-management.io_addontemplates.crd.yaml",
		"crds/ocm/cluster/v1/0000_00_clusters.open-cluster-management.io_managedclusters.crd.yaml",
		"crds/ocm/cluster/v1alpha1/0000_05_clusters.open-cluster-management.io_addonplacementscores.crd.yaml",
		"crds/ocm/cluster/v1beta1/0000_02_clusters.open-cluster-management.io_placements.crd.yaml",
		"crds/ocm/cluster/v1beta1/0000_03_clusters.open-cluster-management.io_placementdecisions.crd.yaml",
		"crds/ocm/cluster/v1beta2/0000_00_clusters.open-cluster-management.io_managedclustersets.crd.yaml",
		"crds/ocm/cluster/v1beta2/0000_01_clusters.open-cluster-management.io_managedclustersetbindings.crd.yaml",
		"crds/ocm/work/v1/0000_00_work.open-cluster-management.io_manifestworks.crd.yaml",
		"crds/ocm/work/v1alpha1/0000_00_work.open-cluster-management.io_manifestworkreplicasets.crd.yaml",
	}
}

// spokeCRDs are the kinds that the agent needs on a spoke.
func spokeCRDs() []string {
	return []string{
		"crds/ocm/cluster/v1alpha1/0000_02_clusters.open-cluster-management.io_clusterclaims.crd.yaml",
		"crds/ocm/work/v1/0000_01_work.open-cluster-management.io_appliedmanifestworks.crd.yaml",
	}
}

// HubCRDs returns the CRDs that a hub installs, one YAML document each.
func HubCRDs() [][]byte { return mustRead(hubCRDs()) }

// ClusterProfileCRD returns the CRD of ClusterProfiles, for hubs whose gate
// ClusterProfile is on.
func ClusterProfileCRD() []byte {
	return mustRead([]string{"crds/multicluster/multicluster.x-k8s.io_clusterprofiles.yaml"})[0]
}

// SIGPlacementDecisionCRD returns the CRD of SIG Multicluster's PlacementDecisions,
// for hubs whose gate SIGPlacementDecision is on.
func SIGPlacementDecisionCRD() []byte {
	return mustRead([]string{"crds/multicluster/multicluster.x-k8s.io_placementdecisions.yaml"})[0]
}

// SpokeCRDs returns the CRDs that an agent installs on its spoke.
func SpokeCRDs() [][]byte { return mustRead(spokeCRDs()) }

// HubRBAC returns the hub's namespaced identity for writes on behalf of agents,
// the role for people who run the fleet, and what binds them, one YAML document
// per object, for the default namespace.
func HubRBAC() [][]byte { return documents("hub/rbac/grpc-server.yaml", "hub/rbac/people.yaml") }

// HubManifests returns the hub as it runs in its own cluster, one YAML document per
// object: what deploy/hub/kustomization.yaml lists. The Deployment is without a
// registry before its image.
func HubManifests() [][]byte {
	return documents("hub/namespace.yaml", "hub/rbac/hub.yaml", "hub/rbac/grpc-server.yaml", "hub/rbac/people.yaml",
		"hub/deployment.yaml", "hub/services.yaml", "hub/webhooks.yaml")
}

// AgentManifests returns what the agent needs on its spoke besides CRDs, one YAML
// document per object: its namespace, ServiceAccount and own rights, and the
// ClusterRole with the rights that works have by default, which is not bound.
func AgentManifests() [][]byte { return documents("agent/rbac.yaml", "agent/workloads.yaml") }

// AgentDeployment returns the agent as a Deployment without image and cluster
// name.
func AgentDeployment() []byte { return mustRead([]string{"agent/deployment.yaml"})[0] }

// documents returns the YAML documents of files, one by one.
func documents(names ...string) [][]byte {
	var docs [][]byte
	for _, file := range mustRead(names) {
		for doc := range strings.SplitSeq(string(file), "\n---\n") {
			docs = append(docs, []byte(doc))
		}
	}
	return docs
}

// Files gives read access to everything embedded, for tools that list it.
func Files() fs.FS { return files }

func mustRead(names []string) [][]byte {
	out := make([][]byte, 0, len(names))
	for _, name := range names {
		content, err := files.ReadFile(name)
		if err != nil {
			panic(fmt.Sprintf("embedded file %q: %v", name, err)) //nolint:forbidigo // it is in the binary, and a test reads every one
		}
		out = append(out, slices.Clone(content))
	}
	return out
}
