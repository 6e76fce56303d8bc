// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package feature has the feature gates of hub and agent. The names, defaults
// and stages are OCM's (spec rows FG-01 to FG-21), so that the settings of a
// ClusterManager or Klusterlet mean the same here; gates of our own are
// beside them. A gate is a value that is passed in: nothing global.
package feature

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/component-base/featuregate"
	ocmfeature "open-cluster-management.io/api/feature"
)

// SIGPlacementDecision shows decisions as PlacementDecisions of SIG Multicluster,
// too. OCM has a gate of that name, which its API module does not list (FG-20).
const SIGPlacementDecision featuregate.Feature = "SIGPlacementDecision"

// Gates is one process's set of feature gates. It is a pflag.Value (for
// --feature-gates=A=true,B=false), and safe to read concurrently once flags
// are parsed.
type Gates struct {
	gate featuregate.MutableVersionedFeatureGate
}

// Hub returns the gates that a hub knows, at their defaults.
func Hub() *Gates {
	return newGates(
		ocmfeature.DefaultHubRegistrationFeatureGates,
		ocmfeature.DefaultHubAddonManagerFeatureGates,
		ocmfeature.DefaultHubPlacementFeatureGates,
		ocmfeature.DefaultHubWorkFeatureGates,
		map[featuregate.Feature]featuregate.FeatureSpec{SIGPlacementDecision: {Default: false, PreRelease: featuregate.Alpha}},
	)
}

// Agent returns the gates that an agent knows, at their defaults.
func Agent() *Gates {
	return newGates(ocmfeature.DefaultSpokeRegistrationFeatureGates, ocmfeature.DefaultSpokeWorkFeatureGates)
}

// Enabled says whether a gate is on. Asking for a gate that is not in the set
// is a programming error and panics.
func (g *Gates) Enabled(name featuregate.Feature) bool { return g.gate.Enabled(name) }

// Set reads A=true,B=false. An unknown name is an error that lists the known
// ones (FG-21).
func (g *Gates) Set(text string) error {
	if err := g.gate.Set(text); err != nil {
		return fmt.Errorf("%w; known gates: %s", err, strings.Join(g.Known(), ", "))
	}
	return nil
}

// String prints the gates that were set.
func (g *Gates) String() string {
	if g == nil || g.gate == nil {
		return ""
	}
	if s, ok := g.gate.(fmt.Stringer); ok {
		return s.String()
	}
	return ""
}

// Type is what help texts call the value.
func (g *Gates) Type() string { return "A=true|false,…" }

// Known lists name=default of every gate, sorted.
func (g *Gates) Known() []string {
	all := g.gate.GetAll()
	known := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(string(name), "All") {
			continue // AllAlpha and AllBeta: groups that every Kubernetes binary has
		}
		known = append(known, fmt.Sprintf("%s=%t", name, all[name].Default))
	}
	return known
}

// Unheeded lists name=value of the gates that are set away from their defaults
// although the program, which heeds only those given, has nothing to turn on or
// off by them. They are for a warning: OCM's settings must be taken as they are.
func (g *Gates) Unheeded(heeded ...featuregate.Feature) []string {
	if g == nil {
		return nil
	}
	all := g.gate.GetAll()
	var unheeded []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if on := g.Enabled(name); on != all[name].Default && !slices.Contains(heeded, name) {
			unheeded = append(unheeded, fmt.Sprintf("%s=%t", name, on))
		}
	}
	return unheeded
}

func newGates(sets ...map[featuregate.Feature]featuregate.FeatureSpec) *Gates {
	gate := featuregate.NewFeatureGate()
	for _, set := range sets {
		if err := gate.Add(set); err != nil {
			panic(fmt.Sprintf("two feature gates of one name disagree: %v", err)) //nolint:forbidigo // two packages of ours disagree: found by any test that starts
		}
	}
	return &Gates{gate: gate}
}
