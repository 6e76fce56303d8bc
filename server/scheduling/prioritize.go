// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
)

// Names of the prioritizers that are built in. Those of add-ons are
// AddOn/<resourceName>/<scoreName>.
const (
	PrioritizerBalance                   = "Balance"
	PrioritizerSteady                    = "Steady"
	PrioritizerResourceAllocatableCPU    = "ResourceAllocatableCPU"
	PrioritizerResourceAllocatableMemory = "ResourceAllocatableMemory"
)

// Bounds of what one prioritizer gives a cluster.
const (
	maxScore = 100
	minScore = -100
)

// prioritizer scores clusters, and counts as much as its weight.
type prioritizer struct {
	name     string
	weight   int64
	resource clusterv1.ResourceName     // of the allocatable ones
	addOn    *clusterv1beta1.AddOnScore // of those of add-ons
}

// plugin is what a prioritizer is called in metrics: users name scores of add-ons as
// they like, and each name would be there for ever.
func (p *prioritizer) plugin() string {
	if p.addOn != nil {
		return "AddOn"
	}
	return p.name
}

// prioritizersOf gives the prioritizers with a weight, sorted by name: those of
// the configuration, and in Additive mode Balance and Steady unless it has them.
func prioritizersOf(policy *clusterv1beta1.PrioritizerPolicy) ([]prioritizer, error) {
	byName := map[string]prioritizer{}
	switch policy.Mode {
	case clusterv1beta1.PrioritizerPolicyModeAdditive, "":
		byName[PrioritizerBalance] = prioritizer{name: PrioritizerBalance, weight: 1}
		byName[PrioritizerSteady] = prioritizer{name: PrioritizerSteady, weight: 1}
	case clusterv1beta1.PrioritizerPolicyModeExact:
	default:
		return nil, fmt.Errorf("incorrect prioritizer mode: %s: spec.prioritizerPolicy.mode is Additive or Exact", policy.Mode)
	}
	for i := range policy.Configurations {
		p, err := prioritizerOf(&policy.Configurations[i], i)
		if err != nil {
			return nil, err
		}
		byName[p.name] = p
	}
	var all []prioritizer
	for _, p := range byName {
		if p.weight != 0 {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b prioritizer) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

func prioritizerOf(config *clusterv1beta1.PrioritizerConfig, i int) (prioritizer, error) {
	p := prioritizer{weight: int64(config.Weight)}
	from := config.ScoreCoordinate
	if from == nil {
		return p, fmt.Errorf("spec.prioritizerPolicy.configurations[%d].scoreCoordinate is missing", i)
	}
	switch from.Type {
	case clusterv1beta1.ScoreCoordinateTypeBuiltIn, "":
		p.name = from.BuiltIn
	case clusterv1beta1.ScoreCoordinateTypeAddOn:
		if from.AddOn == nil || from.AddOn.ResourceName == "" || from.AddOn.ScoreName == "" {
			return p, fmt.Errorf("spec.prioritizerPolicy.configurations[%d].scoreCoordinate.addOn needs a resourceName and a scoreName", i)
		}
		p.addOn = from.AddOn
		p.name = fmt.Sprintf("AddOn/%s/%s", from.AddOn.ResourceName, from.AddOn.ScoreName)
		return p, nil
	default:
		return p, fmt.Errorf("incorrect score coordinate type: %s: spec.prioritizerPolicy.configurations[%d] wants BuiltIn or AddOn", from.Type, i)
	}
	switch p.name {
	case PrioritizerBalance, PrioritizerSteady:
	case PrioritizerResourceAllocatableCPU:
		p.resource = clusterv1.ResourceCPU
	case PrioritizerResourceAllocatableMemory:
		p.resource = clusterv1.ResourceMemory
	default:
		return p, fmt.Errorf("incorrect builtin prioritizer: %s", p.name)
	}
	return p, nil
}

// score fills in what a prioritizer gives to each candidate.
func (c *choice) score(p *prioritizer, scores []int64, now time.Time) {
	switch {
	case p.addOn != nil:
		c.byAddOn(p.addOn, scores, now)
	case p.resource != "":
		c.byResource(p.resource, scores)
	case p.name == PrioritizerSteady:
		for i, one := range c.passed {
			if c.had[one.name] > 0 {
				scores[i] = maxScore
			}
		}
	default:
		c.byBalance(scores)
	}
}

// byBalance prefers clusters that other placements chose less often (PL-31).
func (c *choice) byBalance(scores []int64) {
	most := 0
	for name, n := range c.world.decided {
		most = max(most, n-c.had[name])
	}
	for i, one := range c.passed {
		if most == 0 {
			scores[i] = maxScore
			continue
		}
		used := float64(c.world.decided[one.name]-c.had[one.name]) / float64(most)
		scores[i] = 2 * int64(maxScore*(0.5-used))
	}
}

// byResource prefers clusters with more allocatable, compared with the other
// candidates (PL-34).
func (c *choice) byResource(resource clusterv1.ResourceName, scores []int64) {
	amounts := make([]float64, len(c.passed))
	least, most := math.Inf(1), math.Inf(-1)
	for i, one := range c.passed {
		amount, ok := allocatable(one, resource)
		if !ok {
			amounts[i] = math.NaN()
			continue
		}
		amounts[i] = amount
		least, most = min(least, amount), max(most, amount)
	}
	for i, amount := range amounts {
		switch {
		case math.IsNaN(amount):
			scores[i] = 0
		case most == least:
			scores[i] = maxScore
		default:
			scores[i] = int64(((amount-least)/(most-least) - 0.5) * 2 * maxScore)
		}
	}
}

func allocatable(c *cluster, resource clusterv1.ResourceName) (float64, bool) {
	free, ok := c.object.Status.Allocatable[resource]
	if _, all := c.object.Status.Capacity[resource]; !ok || !all {
		return 0, false
	}
	return free.AsApproximateFloat64(), true
}

// byAddOn takes the score that an add-on wrote, while it is valid (PL-35, PL-36).
func (c *choice) byAddOn(from *clusterv1beta1.AddOnScore, scores []int64, now time.Time) {
	for i, one := range c.passed {
		found := c.world.scores[one.name][from.ResourceName]
		if found == nil {
			continue
		}
		if until := found.object.Status.ValidUntil; until != nil {
			if !now.Before(until.Time) {
				c.expired[one.name+"/"+from.ResourceName] = true
				continue
			}
			c.again = sooner(c.again, until.Time)
		}
		scores[i] = min(max(found.values[from.ScoreName], minScore), maxScore)
	}
}
