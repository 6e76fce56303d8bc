// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package stat reads what processes use from /proc, counters from Prometheus
// texts, and reduces repeated measurements to a median. It knows nothing of
// what is measured.
package stat
