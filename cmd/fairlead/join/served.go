// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// served is what the spoke serves, as far as it could be read; nil before.
type served struct {
	versions map[schema.GroupResource][]string
	unread   map[schema.GroupVersion]error
}

// servedAs finds how a resource is served now: in the version that is listed, if it
// still is, else in the one that discovery lists first. ok is false if no version
// is served: with its kind, the object went.
func (u *unjoin) servedAs(ctx context.Context, listed schema.GroupVersionResource) (found schema.GroupVersionResource, ok bool, err error) {
	if u.served == nil {
		if u.served, err = u.discover(ctx); err != nil {
			return listed, false, err
		}
	}
	versions := u.served.versions[listed.GroupResource()]
	if slices.Contains(versions, listed.Version) {
		return listed, true, nil
	}
	if len(versions) > 0 {
		return listed.GroupResource().WithVersion(versions[0]), true, nil
	}
	for gv, cause := range u.served.unread {
		if gv.Group == listed.Group {
			return listed, false, fmt.Errorf("discovery of API group %q is incomplete: %w", gv.Group, cause)
		}
	}
	return listed, false, nil
}

func (u *unjoin) discover(ctx context.Context) (*served, error) {
	_, lists, err := u.kube.Discovery().ServerGroupsAndResourcesWithContext(ctx)
	unread, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
	if err != nil && !partial {
		return nil, fmt.Errorf("asking the cluster that leaves what it serves: %w", err)
	}
	s := &served{versions: map[schema.GroupResource][]string{}, unread: unread}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for i := range list.APIResources {
			resource := gv.WithResource(list.APIResources[i].Name).GroupResource()
			s.versions[resource] = append(s.versions[resource], gv.Version)
		}
	}
	return s, nil
}

// isUnserved tells that the spoke has no such resource in that version, and not
// that it has no such object: see agent/work/kinds.
func isUnserved(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(cause metav1.StatusCause) bool {
		return cause.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}
