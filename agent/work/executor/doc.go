// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package executor says whether the identity that a work names in spec.executor may do what the work asks for. An identity and
// a manifest come in; nothing, a DeniedError or the reason why there is no answer comes out. It must not know works but by name, nor
// apply anything.
//
// # What is asked
//
// The spoke's apiserver decides, by a SubjectAccessReview for each verb that applying may take. For objects that give rights
// that is not enough, as whoever applies them is the agent, which may have more rights than the executor: for these a dry-run
// of the creation is made as the executor, so that the apiserver refuses what the executor could not grant by itself.
//
// An answer that cannot be had is no answer: everything but a yes keeps the manifest from being applied.
//
// # What is remembered
//
// By default nothing for longer than a pass over a work. With Config.Cache answers are kept while roles and bindings are
// watched and do not change. Watching is by metadata, and only while some work has an executor.
package executor
