// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

// inventories are guards around kinds that others have a hand in.
func inventories() []mutant {
	return []mutant{
		{
			name: "crd-downgrade", rule: "--install-crds takes no version and no field away",
			file: "internal/kube/crds.go", tests: []string{"./internal/kube"},
			old: "		if has := beyond(existing, ours); len(has) > 0 {\n", new: "		if has := beyond(existing, ours); len(has) > 1000 {\n",
		},
		{
			name: "claim-twice-in-a-profile", rule: "RC-61: a claim that a profile cannot hold keeps no other from being shown",
			file: "server/controller/clusterprofile/content.go", tests: []string{"./test/conformance/clusterset"},
			old: "claim.Value != \"\" && !seen[claim.Name] {\n", new: "claim.Value != \"\" {\n",
		},
		{
			name: "mirror-of-others", rule: "PL-63: a PlacementDecision of multicluster.x-k8s.io that somebody else made is left alone",
			file: "server/controller/sigdecision/mirror.go", tests: []string{"./test/conformance/placement"},
			old: "	case !ours(mirror):\n", new: "	case false:\n",
		},
	}
}
