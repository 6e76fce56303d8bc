// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hold is the policy of PROTOCOL decision 8, "absence never deletes",
// on the agent's side: which deletes are carried out, which wait, which are
// held until a person releases them, and which prunes are held likewise.
//
// It is pure: what the agent knows and the time come in, and what the records
// of some objects become goes out. Whoever calls it makes that durable before
// acting on it. It knows nothing of Kubernetes, of files or of the stream.
package hold
