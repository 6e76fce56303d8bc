// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/internal/identity"
)

const (
	namespace = identity.AgentNamespace
	account   = "fairlead-agent"
	// annotationName is on the ServiceAccount: the name that was joined with last.
	annotationName = "fairlead.dev/cluster-name"
	// credentials is the Secret where an agent in the cluster keeps its identity.
	credentials = "hub-kubeconfig-secret" //nolint:gosec // the name of one

	// reachable is how long the spoke may take to answer the first question.
	reachable = 15 * time.Second
)

// spoke is the cluster that joins, as its admin sees it.
type spoke struct {
	*request
	config  *rest.Config
	kube    kubernetes.Interface
	dynamic dynamic.Interface
}

// connect reaches the spoke that is to join.
func (r *request) connect(ctx context.Context) (*spoke, error) {
	s, err := r.reach(ctx)
	if err == nil {
		r.o.Notef("To join as %q", r.name)
	}
	return s, err
}

// reach reaches the spoke.
func (r *request) reach(ctx context.Context) (*spoke, error) {
	config, err := cli.LoadKubeconfig(r.kubeconfig, r.kubeContext)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of the cluster: %w (--spoke-kubeconfig, --spoke-context)", err)
	}
	config.QPS, config.Burst = 50, 300 // as kubectl's: unjoin looks through the kinds of the cluster
	s := &spoke{request: r, config: config}
	if s.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("using the kubeconfig of the cluster: %w", err)
	}
	if s.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("using the kubeconfig of the cluster: %w", err)
	}
	asked, cancel := context.WithTimeout(ctx, reachable)
	defer cancel()
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	raw, err := s.kube.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(asked)
	if err == nil {
		err = unmarshal(raw, &version)
	}
	if err != nil {
		return nil, fmt.Errorf("the cluster does not answer at %s: %w\nHint: try «kubectl version» with the same kubeconfig", config.Host, err)
	}
	r.o.Notef("Cluster: Kubernetes %s at %s", version.GitVersion, config.Host)
	return s, nil
}

// preflight looks whether everything can be written before anything is.
func (s *spoke) preflight(ctx context.Context) error {
	missing, err := s.missingRights(ctx)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("you lack rights on the cluster that joins: %s\nHint: use a kubeconfig of one of its admins", strings.Join(missing, "; "))
	}
	return s.notTaken(ctx)
}

func (s *spoke) missingRights(ctx context.Context) (missing []string, err error) {
	for _, access := range s.needed() {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &access}}
		answer, err := s.kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("asking the cluster that joins what you may do there: %w", err)
		}
		if !answer.Status.Allowed {
			missing = append(missing, access.Verb+" "+access.Resource)
		}
	}
	return missing, nil
}

// needed is what install does.
func (s *spoke) needed() []authorizationv1.ResourceAttributes {
	patch := func(group, resource string) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{Verb: "patch", Group: group, Resource: resource}
	}
	within := func(a authorizationv1.ResourceAttributes) authorizationv1.ResourceAttributes {
		a.Namespace = namespace
		return a
	}
	needed := []authorizationv1.ResourceAttributes{
		patch("", "namespaces"),
		patch("apiextensions.k8s.io", "customresourcedefinitions"),
		patch("rbac.authorization.k8s.io", "clusterroles"),
		patch("rbac.authorization.k8s.io", "clusterrolebindings"),
		within(patch("rbac.authorization.k8s.io", "roles")),
		within(patch("rbac.authorization.k8s.io", "rolebindings")),
		within(patch("", "serviceaccounts")),
		within(patch("", "secrets")),
	}
	if s.mode == modeDeployment {
		needed = append(needed, within(patch("apps", "deployments")))
	}
	return needed
}

// notTaken refuses a cluster that belongs to another hub, or to an agent of
// OCM's, whose Secret has the same name. Of an agent outside the cluster only the
// name of its join is known, so there is a word about it and no more.
func (s *spoke) notTaken(ctx context.Context) error {
	own, err := s.kube.CoreV1().ServiceAccounts(namespace).Get(ctx, account, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading ServiceAccount %s/%s of the cluster that joins: %w", namespace, account, err)
	}
	if before := own.GetAnnotations()[annotationName]; before != "" && before != s.name {
		s.o.Notef("Careful: this cluster joined as %q before. With two names and two agents, two hubs or one manage it twice.", before)
	}
	secret, err := s.kube.CoreV1().Secrets(namespace).Get(ctx, credentials, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s/%s of the cluster that joins: %w", namespace, credentials, err)
	}
	known := stateOf(secret.Data)
	switch {
	case isOCMs(secret):
		return errOCMs()
	case known.joined() && known.cluster != s.name:
		return fmt.Errorf("this cluster has joined hub %s as %q already\nHint: go on with --name %s, or delete Secret %s/%s to join anew", known.hub, known.cluster, known.cluster, namespace, credentials)
	}
	return nil
}

// isOCMs tells an agent of OCM's from ours by its Secret.
func isOCMs(secret *corev1.Secret) bool {
	return len(secret.Data[keyHub]) == 0 && len(secret.Data["kubeconfig"]) > 0
}

func errOCMs() error {
	return fmt.Errorf("this cluster has an agent of Open Cluster Management: Secret %s/%s has its kubeconfig\nHint: remove its klusterlet first", namespace, credentials)
}
