// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package stat

import (
	"cmp"
	"math"
	"slices"
)

// Number is what can be measured.
type Number interface {
	~int | ~int64 | ~float64
}

// Median is the middle of the samples; of an even number, the lower of the two,
// so that it is one that was measured. It is 0 without samples.
func Median[N Number](samples []N) N { return Quantile(samples, 0.5) }

// Quantile is the sample that a share q of all is not above (nearest rank).
func Quantile[N Number](samples []N, q float64) N {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Clone(samples)
	slices.SortFunc(sorted, cmp.Compare[N])
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

// Min is the least sample, 0 without any.
func Min[N Number](samples []N) N { return Quantile(samples, 0) }

// Max is the greatest sample, 0 without any.
func Max[N Number](samples []N) N { return Quantile(samples, 1) }
