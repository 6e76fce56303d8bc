// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
)

const (
	// rightsWait is how long the cluster may take to know that rights are gone.
	rightsWait = 10 * time.Second
	// ownPrefix begins the names of the bindings that «fairlead join» made.
	ownPrefix = "open-cluster-management:fairlead:agent"
	agentUser = "system:serviceaccount:" + namespace + ":" + account
)

// fence takes the agent's rights away: one may run that nobody here started, and
// it would apply anew what is deleted, and own again what is kept. Bindings that
// somebody else made stay, without the agent.
func (u *unjoin) fence(ctx context.Context) error {
	rbac := u.kube.RbacV1()
	everywhere, err := rbac.ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("looking for the agent's rights: %w", err)
	}
	for i := range everywhere.Items {
		b := &everywhere.Items[i]
		err := u.unbind(b.Name, &b.Subjects, func() error {
			_, err := rbac.ClusterRoleBindings().Update(ctx, b, metav1.UpdateOptions{FieldManager: fieldManager})
			return err
		})
		if err != nil {
			return fmt.Errorf("taking the agent out of ClusterRoleBinding %q: %w", b.Name, err)
		}
	}
	within, err := rbac.RoleBindings(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("looking for the agent's rights: %w", err)
	}
	for i := range within.Items {
		b := &within.Items[i]
		err := u.unbind(b.Name, &b.Subjects, func() error {
			_, err := rbac.RoleBindings(b.Namespace).Update(ctx, b, metav1.UpdateOptions{FieldManager: fieldManager})
			return err
		})
		if err != nil {
			return fmt.Errorf("taking the agent out of RoleBinding %s/%s: %w", b.Namespace, b.Name, err)
		}
	}
	if err := u.kube.CoreV1().Secrets(namespace).Delete(ctx, tokenSecret, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("removing Secret %s/%s: %w", namespace, tokenSecret, err)
	}
	return u.powerless(ctx, inventories.GroupResource(), "")
}

// unbind takes the agent out of the subjects of a binding, if it is among them.
func (u *unjoin) unbind(name string, subjects *[]rbacv1.Subject, update func() error) error {
	others := slices.DeleteFunc(slices.Clone(*subjects), namesAgent)
	if len(others) == len(*subjects) {
		return nil
	}
	*subjects = others
	if err := update(); err != nil {
		return err
	}
	if !strings.HasPrefix(name, ownPrefix) {
		u.o.Notef("Taken away from the agent: what %s allows; the binding stays, without it", name)
	}
	return nil
}

func namesAgent(s rbacv1.Subject) bool {
	return s.Kind == rbacv1.ServiceAccountKind && s.Namespace == namespace && s.Name == account || s.Kind == rbacv1.UserKind && s.Name == agentUser
}

// powerlessOver waits until the agent may write nothing of what works applied.
func (u *unjoin) powerlessOver(ctx context.Context, all []workv1.AppliedManifestWork) error {
	type place struct {
		schema.GroupResource

		namespace string
	}
	asked := map[place]bool{}
	for i := range all {
		for _, r := range all[i].Status.AppliedResources {
			p := place{schema.GroupResource{Group: r.Group, Resource: r.Resource}, r.Namespace}
			if asked[p] {
				continue
			}
			asked[p] = true
			if err := u.powerless(ctx, p.GroupResource, p.namespace); err != nil {
				return err
			}
		}
	}
	return nil
}

// powerless waits until the agent may not patch a resource any more, which is how
// it writes. Without its ServiceAccount it can do nothing.
func (u *unjoin) powerless(ctx context.Context, resource schema.GroupResource, within string) error {
	if !u.account {
		return nil
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: agentUser, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "patch", Group: resource.Group, Resource: resource.Resource, Namespace: within},
	}}
	bounded, cancel := context.WithTimeout(ctx, rightsWait)
	defer cancel()
	for {
		answer, err := u.kube.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("asking the cluster that leaves what the agent may still do: %w", err)
		}
		if !answer.Status.Allowed {
			return nil
		}
		if err := cli.Pause(bounded, lookEvery); err != nil {
			return fmt.Errorf("the agent may still patch %s, although no binding names it: a group that it is in may, or everybody (%s)\n"+
				"Hint: end every agent of this cluster, delete ServiceAccount %s/%s, and repeat the command with --name %s", resource, answer.Status.Reason, namespace, account, u.name)
		}
	}
}
