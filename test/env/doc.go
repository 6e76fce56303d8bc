// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package env runs real Kubernetes for tests, benches and the demo: it builds
// the devplane binary once per machine, starts and stops control planes of it in
// a few seconds each, and puts a fault proxy in front of an apiserver.
//
// In: Options (which components, CRDs, flags). Out: a Plane with rest configs,
// kubeconfigs, audit events, snapshots, and handles to kill its parts. A plane
// needs no Docker and no root, listens on loopback only (etcd on a unix socket),
// and ends with the process that started it, however that process ends.
//
// The package knows nothing of the hub, the agent or their APIs. Tests start one
// plane per package with Main and Shared and keep apart by unique namespaces;
// StartPlane is for tests that break their plane.
package env
