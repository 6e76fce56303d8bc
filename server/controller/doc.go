// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controller lists every reconcile loop of the hub and starts those that
// are asked for, each as soon as the kinds that it needs are served.
//
// A controller-runtime manager comes in; loops run inside of it until it ends.
// Controllers know each other only through the apiserver: they import neither
// one another nor sessions, RPCs, stores or authorities.
package controller
