// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cleanup

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
)

const (
	pageSize    = 500
	maxPriority = 100
)

// remaining is what is left of one resource.
type remaining struct {
	resource schema.GroupVersionResource
	objects  []metav1.PartialObjectMetadata
}

// String says to a person how many are left, and how many of these wait for
// somebody: most often for the spoke to be clean.
func (r remaining) String() string {
	text := fmt.Sprintf("%d %s left", len(r.objects), r.resource.GroupResource())
	waiting := 0
	for i := range r.objects {
		if r.objects[i].DeletionTimestamp != nil {
			waiting++
		}
	}
	if waiting > 0 {
		text += fmt.Sprintf(", %d of them deleted and waiting for finalizers", waiting)
	}
	return text
}

// look returns what is left in a cluster's namespace, in the configured order.
func (c *controller) look(ctx context.Context, namespace string) (left []remaining, err error) {
	for _, resource := range c.cfg.Resources {
		objects, err := c.list(ctx, resource, namespace)
		if err != nil {
			return nil, err
		}
		if len(objects) > 0 {
			left = append(left, remaining{resource, objects})
		}
	}
	return left, nil
}

// empty deletes the next batch of what is left: of the first resource the objects
// of the lowest priority. Each batch is gone before the next one (RC-67).
func (c *controller) empty(ctx context.Context, left []remaining) error {
	if len(left) == 0 {
		return nil
	}
	return c.deleteAll(ctx, left[0].resource, lowest(left[0].objects))
}

// list reads the metadata of one resource. One that is not served has no objects.
func (c *controller) list(ctx context.Context, resource schema.GroupVersionResource, namespace string) ([]metav1.PartialObjectMetadata, error) {
	var all []metav1.PartialObjectMetadata
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := c.objects.Resource(resource).Namespace(namespace).List(ctx, options)
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listing %s in %q: %w", resource.GroupResource(), namespace, err)
		}
		all = append(all, page.Items...)
		if options.Continue = page.Continue; options.Continue == "" {
			return all, nil
		}
	}
}

// lowest are the objects of the lowest priority.
func lowest(objects []metav1.PartialObjectMetadata) []*metav1.PartialObjectMetadata {
	var batch []*metav1.PartialObjectMetadata
	least := maxPriority + 1
	for i := range objects {
		p := priority(&objects[i])
		if p < least {
			least, batch = p, nil
		}
		if p == least {
			batch = append(batch, &objects[i])
		}
	}
	return batch
}

// priority is 0 to 100; what is absent or no such number is 0.
func priority(o *metav1.PartialObjectMetadata) int {
	p, err := strconv.Atoi(o.Annotations[clusterv1.CleanupPriorityAnnotationKey])
	if err != nil || p < 0 || p > maxPriority {
		return 0
	}
	return p
}

// deleteAll deletes exactly the objects that were listed.
func (c *controller) deleteAll(ctx context.Context, resource schema.GroupVersionResource, objects []*metav1.PartialObjectMetadata) error {
	var problems []error
	for _, o := range objects {
		if o.DeletionTimestamp != nil {
			continue
		}
		err := c.objects.Resource(resource).Namespace(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &o.UID}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			problems = append(problems, fmt.Errorf("deleting %s %s/%s: %w", resource.GroupResource(), o.Namespace, o.Name, err))
		}
	}
	return errors.Join(problems...)
}
