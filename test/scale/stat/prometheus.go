// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package stat

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// Sample is one line of a Prometheus text.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Has tells whether the sample has these labels with these values.
func (s Sample) Has(labels map[string]string) bool {
	for name, value := range labels {
		if s.Labels[name] != value {
			return false
		}
	}
	return true
}

// ParsePrometheus calls f for each sample of the text whose name is wanted.
func ParsePrometheus(text []byte, f func(Sample), wanted ...string) error {
	want := map[string]bool{}
	for _, name := range wanted {
		want[name] = true
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		end := strings.IndexAny(line, "{ ")
		if end < 0 || !want[line[:end]] {
			continue
		}
		sample, err := parseSample(line[:end], line[end:])
		if err != nil {
			return fmt.Errorf("metrics, %q: %w", line, err)
		}
		f(sample)
	}
	return lines.Err()
}

func parseSample(name, rest string) (Sample, error) {
	s := Sample{Name: name, Labels: map[string]string{}}
	if list, ok := strings.CutPrefix(rest, "{"); ok {
		for !strings.HasPrefix(list, "}") {
			label, after, ok := strings.Cut(list, "=")
			quoted, err := strconv.QuotedPrefix(after)
			if !ok || err != nil {
				return s, fmt.Errorf("label at %q: %w", list, err)
			}
			value, err := strconv.Unquote(quoted)
			if err != nil {
				return s, err
			}
			s.Labels[strings.Trim(label, ", ")] = value
			list = strings.TrimLeft(after[len(quoted):], ", ")
		}
		rest = list[1:]
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return s, errors.New("no value")
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	s.Value = value
	return s, err
}

// Counts are counters by what they count.
type Counts map[string]int

// Since is what was counted after older was read; what did not change is left out.
func (c Counts) Since(older Counts) Counts {
	changed := maps.Clone(c)
	for what, n := range older {
		changed[what] -= n
	}
	maps.DeleteFunc(changed, func(_ string, n int) bool { return n == 0 })
	return changed
}

// Sum adds up what pick wants.
func (c Counts) Sum(pick func(what string) bool) int {
	sum := 0
	for what, n := range c {
		if pick(what) {
			sum += n
		}
	}
	return sum
}
