// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduling

// Types of plugins, as PL-61 has them.
const (
	PluginFilter      = "filter"
	PluginPrioritizer = "prioritizer"
)

// Observer measures, with a clock of its own, how a World spends its time (PL-61).
// It is called while the World works.
type Observer interface {
	// Plugin is called when a filter or prioritizer begins, and what it returns when
	// that ends.
	Plugin(kind, name string) (done func())
	// CEL is the same for one expression on one cluster.
	CEL() (done func())
}

// unobserved is nobody.
type unobserved struct{}

// Plugin implements Observer.
func (unobserved) Plugin(_, _ string) func() { return nothing }

// CEL implements Observer.
func (unobserved) CEL() func() { return nothing }

func nothing() {}
