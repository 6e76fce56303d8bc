// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/kube"
)

const (
	fieldManager = "fairlead-join"
	// joinSecret has the join string until the cluster has joined.
	joinSecret = "fairlead-join"
	keyJoin    = "join"
	keyName    = "cluster-name"
	// labelRole is on bindings that --role made, so that another --role takes them
	// away again.
	labelRole = "fairlead.dev/role-of-works"

	// roleWorkloads and roleNone are names that --role takes besides ClusterRoles.
	roleWorkloads = "workloads"
	roleNone      = "none"
	workloadsRole = "open-cluster-management:fairlead:agent:workloads"
	bindingPrefix = "open-cluster-management:fairlead:agent:role:"
)

// install writes what the agent needs. Repeating it changes nothing, or the
// roles, if others are asked for.
func (s *spoke) install(ctx context.Context) error {
	kept, err := kube.InstallCRDs(ctx, s.config, deploy.SpokeCRDs())
	for _, crd := range kept {
		s.o.Notef("%s", crd)
	}
	if err != nil {
		return fmt.Errorf("installing the agent's kinds: %w", err)
	}
	for _, doc := range deploy.AgentManifests() {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &object.Object); err != nil {
			return fmt.Errorf("an embedded manifest: %w", err)
		}
		if object.GetKind() == "ServiceAccount" {
			object.SetAnnotations(map[string]string{annotationName: s.name})
		}
		if err := s.apply(ctx, object); err != nil {
			return err
		}
	}
	if err := s.grant(ctx); err != nil {
		return err
	}
	return s.applyTyped(ctx, &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: joinSecret, Namespace: namespace},
		Data:       map[string][]byte{keyJoin: []byte(s.text), keyName: []byte(s.name)},
	})
}

// grant binds the roles that works act with, and takes away those of an earlier
// join that are not asked for now.
func (s *spoke) grant(ctx context.Context) error {
	roles, err := s.wantedRoles(ctx)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, role := range roles {
		name := bindingPrefix + role
		wanted[name] = true
		err := s.applyTyped(ctx, &rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{labelRole: "true"}},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: namespace}},
		})
		if err != nil {
			return err
		}
	}
	bindings := s.kube.RbacV1().ClusterRoleBindings()
	bound, err := bindings.List(ctx, metav1.ListOptions{LabelSelector: labelRole})
	if err != nil {
		return fmt.Errorf("listing what works may do here: %w", err)
	}
	for _, b := range bound.Items {
		if wanted[b.Name] {
			continue
		}
		if err := bindings.Delete(ctx, b.Name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("taking role %q away: %w", b.RoleRef.Name, err)
		}
		s.o.Notef("Taken away from works: ClusterRole %s", b.RoleRef.Name)
	}
	return nil
}

// wantedRoles are the ClusterRoles to bind; they have to exist.
func (s *spoke) wantedRoles(ctx context.Context) ([]string, error) {
	if s.clusterAdmin {
		s.o.Notef("Works may do everything here: who is an admin of the hub is one of this cluster too.")
		return []string{"cluster-admin"}, nil
	}
	var roles []string
	for _, role := range s.roles {
		switch role {
		case roleNone:
			s.o.Notef("Works may do nothing here until you bind roles to ServiceAccount %s/%s.", namespace, account)
			continue
		case roleWorkloads:
			role = workloadsRole
		case "cluster-admin":
			return nil, errors.New("--role cluster-admin lets works do everything here: if that is meant, say --cluster-admin")
		}
		_, err := s.kube.RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("--role %q: this cluster has no such ClusterRole", role)
		}
		if err != nil {
			return nil, fmt.Errorf("reading ClusterRole %q: %w", role, err)
		}
		s.o.Notef("Works may do here: what ClusterRole %s allows", role)
		roles = append(roles, role)
	}
	return roles, nil
}

func (s *spoke) applyTyped(ctx context.Context, object runtime.Object) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("encoding %T: %w", object, err)
	}
	return s.apply(ctx, &unstructured.Unstructured{Object: content})
}

// apply writes one object by server-side apply.
func (s *spoke) apply(ctx context.Context, object *unstructured.Unstructured) error {
	resource, ok := resources()[object.GetKind()]
	if !ok {
		return fmt.Errorf("an embedded manifest is of kind %q, which is not expected", object.GetKind())
	}
	unstructured.RemoveNestedField(object.Object, "metadata", "creationTimestamp")
	_, err := s.dynamic.Resource(resource).Namespace(object.GetNamespace()).Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("writing %s %q to the cluster that joins: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

func resources() map[string]schema.GroupVersionResource {
	rbac := rbacv1.SchemeGroupVersion
	return map[string]schema.GroupVersionResource{
		"Namespace":          corev1.SchemeGroupVersion.WithResource("namespaces"),
		"ServiceAccount":     corev1.SchemeGroupVersion.WithResource("serviceaccounts"),
		"Secret":             corev1.SchemeGroupVersion.WithResource("secrets"),
		"Role":               rbac.WithResource("roles"),
		"RoleBinding":        rbac.WithResource("rolebindings"),
		"ClusterRole":        rbac.WithResource("clusterroles"),
		"ClusterRoleBinding": rbac.WithResource("clusterrolebindings"),
		"Deployment":         {Group: "apps", Version: "v1", Resource: "deployments"},
	}
}

// forgetJoin removes the join string, which has done its work.
func (s *spoke) forgetJoin(ctx context.Context) error {
	err := s.kube.CoreV1().Secrets(namespace).Delete(ctx, joinSecret, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("removing the join string from the cluster: %w", err)
	}
	return nil
}

func unmarshal(raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	return nil
}
