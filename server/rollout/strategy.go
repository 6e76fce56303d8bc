// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1alpha1 "open-cluster-management.io/api/cluster/v1alpha1"
)

// rules are a strategy with its defaults filled in.
type rules struct {
	kind        clusterv1alpha1.RolloutType
	soak        time.Duration
	deadline    time.Duration // 0: none
	failures    intstr.IntOrString
	concurrency int // clusters in progress at a time
	mandatory   []clusterv1alpha1.MandatoryDecisionGroup
}

// read fills in defaults. perGroup is the placement's clustersPerDecisionGroup,
// total the number of clusters.
func read(strategy *clusterv1alpha1.RolloutStrategy, perGroup intstr.IntOrString, total int) (rules, error) {
	r := rules{kind: strategy.Type, concurrency: total}
	config := clusterv1alpha1.RolloutConfig{}
	switch strategy.Type {
	case "", clusterv1alpha1.All:
		r.kind = clusterv1alpha1.All
		if strategy.All != nil {
			config.ProgressDeadline = strategy.All.ProgressDeadline // the others are not for All
		}
	case clusterv1alpha1.Progressive:
		if s := strategy.Progressive; s != nil {
			config, r.mandatory = s.RolloutConfig, s.MandatoryDecisionGroups.MandatoryDecisionGroups
			r.concurrency = count(s.MaxConcurrency, total)
		} else {
			r.concurrency = 0
		}
		if r.concurrency <= 0 { // MH-17
			r.concurrency = count(perGroup, total)
		}
		if r.concurrency <= 0 || r.concurrency > total {
			r.concurrency = total
		}
	case clusterv1alpha1.ProgressivePerGroup:
		if s := strategy.ProgressivePerGroup; s != nil {
			config, r.mandatory = s.RolloutConfig, s.MandatoryDecisionGroups.MandatoryDecisionGroups
		}
	default:
		return rules{}, fmt.Errorf("rolloutStrategy.type is %q: want All, Progressive or ProgressivePerGroup", strategy.Type)
	}
	r.soak, r.failures = config.MinSuccessTime.Duration, config.MaxFailures
	var err error
	r.deadline, err = deadline(config.ProgressDeadline)
	return r, err
}

// deadline reads progressDeadline (MH-20); 0 is none.
func deadline(text string) (time.Duration, error) {
	if text == "" || text == "None" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf(`rolloutStrategy.progressDeadline is %q: want "None", or a number with h, m or s as in 90m`, text)
	}
	if d == 0 {
		d = 1 // over at once, which is not the same as none
	}
	return d, nil
}

// count is a number, or that percentage of total, rounded up. What is neither,
// below zero, or above 100 % is 0 (MH-21).
func count(value intstr.IntOrString, total int) int {
	if value.Type == intstr.Int {
		return max(0, int(value.IntVal))
	}
	text, percent := strings.CutSuffix(value.StrVal, "%")
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 0 || percent && n > 100:
		return 0
	case percent:
		return (n*total + 99) / 100
	default:
		return n
	}
}
