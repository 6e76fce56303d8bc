// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"fairlead.dev/fairlead/server/rpc/person"
	"fairlead.dev/fairlead/server/rpc/rpcerr"
)

var (
	managedClusters = schema.GroupVersionResource{Group: "cluster.open-cluster-management.io", Version: "v1", Resource: "managedclusters"}
	manifestWorks   = schema.GroupVersionResource{Group: "work.open-cluster-management.io", Version: "v1", Resource: "manifestworks"}
	replicaSets     = schema.GroupVersionResource{Group: manifestWorks.Group, Version: "v1alpha1", Resource: "manifestworkreplicasets"}
)

const (
	// maxWatches bounds what watchers can cost one replica.
	maxWatches = 256
	// reauthorize is how long a watch goes on without a look at whether its
	// caller still may.
	reauthorize = time.Minute
)

// caller acts with one person's bearer token.
type caller struct{ *person.Person }

// callers makes clients that act as the person who calls.
type callers struct{ *person.Callers }

func (c callers) of(ctx context.Context) (*caller, error) {
	who, err := c.Of(ctx)
	if err != nil {
		return nil, err
	}
	return &caller{who}, nil
}

// authorize is of, Allowed and Name in one: for actions that the hub itself
// carries out.
func (s *Service) authorize(ctx context.Context, access authorizationv1.ResourceAttributes) (*caller, string, error) {
	who, err := s.callers.of(ctx)
	if err != nil {
		return nil, "", err
	}
	if err := who.Allowed(ctx, access); err != nil {
		return nil, "", err
	}
	return who, who.Name, nil
}

// asked is who calls, if all of these can be names.
func (s *Service) asked(ctx context.Context, names ...string) (*caller, error) {
	if err := person.Names(names...); err != nil {
		return nil, err
	}
	return s.callers.of(ctx)
}

// virtual names one of the resources that exist only to be authorized.
func virtual(verb, resource, name string) authorizationv1.ResourceAttributes {
	return person.Virtual(verb, resource, name)
}

// kubernetesError passes on what the apiserver said to the caller's own request.
func kubernetesError(err error, doing string, args ...any) error {
	return person.Error(err, doing, args...)
}

// fail makes an error for the caller; see rpcerr.New.
func fail(code codes.Code, why, format string, args ...any) error {
	return rpcerr.New(code, why, format, args...)
}

// watching runs a watch in one of the places for them, until the replica drains.
func (s *Service) watching(ctx context.Context, watch func(context.Context) error) error {
	return s.watches.Run(ctx, watch)
}

// Drain ends all watches, and those that begin later; see person.Watches.
func (s *Service) Drain(ctx context.Context) { s.watches.Drain(ctx) }
