// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gc removes what the hub itself made and nobody needs any more: Leases
// of replicas that died, session Leases of clusters that are gone, and
// enrollments that ended without a certificate or whose cluster was removed.
//
// Objects come in as the shared cache has them, with the hub's clock; deletes go
// out, each bound to the UID and resourceVersion that were judged, so that a
// cache that lags removes nothing. It knows nothing of works and never touches
// an object that a user made.
package gc
