// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/dynamic"
	authorization "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	workv1 "open-cluster-management.io/api/work/v1"
)

// Config is what a Checker needs. Without Cache only REST counts.
type Config struct {
	// REST reaches the spoke's apiserver as the agent.
	REST *rest.Config
	// Cache keeps answers while nothing shows that they may have changed.
	Cache bool
	// Changed is called with the name of each work in use when rights may have changed. It must not block.
	Changed func(work string)
	Logger  *slog.Logger
	Clock   clock.PassiveClock
}

// Checker asks the spoke. Its methods may be called concurrently.
type Checker struct {
	cfg     Config
	reviews authorization.SubjectAccessReviewInterface
	rights  *rights
}

// New returns a checker.
func New(cfg Config) (*Checker, error) {
	reviews, errReviews := authorization.NewForConfig(cfg.REST)
	metas, errMetas := metadata.NewForConfig(cfg.REST)
	if err := errors.Join(errReviews, errMetas); err != nil {
		return nil, fmt.Errorf("making clients for access reviews: %w", err)
	}
	return &Checker{cfg: cfg, reviews: reviews.SubjectAccessReviews(), rights: newRights(cfg, metas)}, nil
}

// Run watches rights, with Config.Cache, whenever some work is in use, until ctx ends. It returns when all has stopped.
func (c *Checker) Run(ctx context.Context) error { return c.rights.run(ctx) }

// Use says whether a work has an executor. It does not wait for anything.
func (c *Checker) Use(work string, has bool) { c.rights.use(work, has) }

// Epoch changes whenever rights may have changed, as far as they are watched.
func (c *Checker) Epoch() int64 { return c.rights.epoch() }

// SubjectOf returns the user that an executor stands for.
func SubjectOf(executor *workv1.ManifestWorkExecutor) (string, error) {
	subject := executor.Subject
	if subject.Type != workv1.ExecutorSubjectTypeServiceAccount {
		return "", fmt.Errorf("spec.executor.subject.type %q is not supported: use %s", subject.Type, workv1.ExecutorSubjectTypeServiceAccount)
	}
	account := subject.ServiceAccount
	if account == nil || account.Namespace == "" || account.Name == "" {
		return "", errors.New("spec.executor.subject.serviceAccount must have a namespace and a name")
	}
	return serviceaccount.MakeUsername(account.Namespace, account.Name), nil
}

// groupsOf returns the groups that the apiserver puts a service account into.
func groupsOf(subject string) []string {
	namespace, _, err := serviceaccount.SplitUsername(subject)
	if err != nil {
		return nil // none that SubjectOf made: without a group it has the fewest rights
	}
	return append(serviceaccount.MakeGroupNames(namespace), user.AllAuthenticated)
}

// Request is one manifest that is to be applied.
type Request struct {
	Resource schema.GroupVersionResource
	Manifest *unstructured.Unstructured
	// Verbs is what it may take; see Verbs.
	Verbs []string
}

// Verbs returns what is needed to apply an object: to read it is enough if it is only read, and what the work is to own it
// will one day delete.
func Verbs(readOnly, owned bool) []string {
	switch {
	case readOnly:
		return []string{"get"}
	case owned:
		return []string{"create", "update", "patch", "get", "delete"}
	}
	return []string{"create", "update", "patch", "get"}
}

// DeniedError says that the subject may not apply a manifest.
type DeniedError struct {
	Subject         string
	Resource        schema.GroupResource
	Namespace, Name string
	// Verbs are those that the subject lacks; Because is why it may not grant what the manifest grants, or what went wrong as
	// the apiserver looked for rights.
	Verbs   []string
	Because string
}

// Error names who may not do what.
func (d *DeniedError) Error() string {
	where := ""
	if d.Namespace != "" {
		where = fmt.Sprintf(" in namespace %q", d.Namespace)
	}
	what := fmt.Sprintf("not allowed to apply the resource %s %q%s: executor %s ", d.Resource, d.Name, where, d.Subject)
	switch {
	case len(d.Verbs) == 0:
		return what + "may not grant what it grants: " + d.Because
	case d.Because != "":
		return what + "lacks " + strings.Join(d.Verbs, ", ") + " (" + d.Because + ")"
	}
	return what + "lacks " + strings.Join(d.Verbs, ", ")
}

// MayRead reports whether it lacks anything but the right to read the object.
func (d *DeniedError) MayRead() bool { return !slices.Contains(d.Verbs, "get") }

// Round is one pass over a work: what was answered in it is not asked again. It is not safe for concurrent use.
type Round struct {
	checker *Checker
	subject string
	answers map[question]answer
}

// Round begins a pass in which subject is the executor.
func (c *Checker) Round(subject string) *Round {
	return &Round{checker: c, subject: subject, answers: map[question]answer{}}
}

// question is one access review; an empty name is all names.
type question struct {
	subject, verb, group, resource, namespace, name string
}

type answer struct {
	allowed bool
	because string
}

// Check returns nil if the subject may apply the manifest, a *DeniedError if it may not, and what went wrong if that is not known.
func (r *Round) Check(ctx context.Context, req Request) error {
	denied := &DeniedError{
		Subject: r.subject, Resource: req.Resource.GroupResource(), Namespace: req.Manifest.GetNamespace(), Name: req.Manifest.GetName(),
	}
	for _, verb := range req.Verbs {
		found, err := r.may(ctx, verb, req)
		if err != nil {
			return fmt.Errorf("asking whether executor %s may %s %s %q: %w; nothing is applied before that is known", r.subject, verb, denied.Resource, denied.Name, err)
		}
		if !found.allowed {
			denied.Verbs = append(denied.Verbs, verb)
			denied.Because = found.because
		}
	}
	if len(denied.Verbs) > 0 {
		return denied
	}
	if !grants(req.Resource) || !slices.Contains(req.Verbs, "create") {
		return nil
	}
	err := r.checker.rehearse(ctx, r.subject, req)
	if apierrors.IsForbidden(err) {
		denied.Because = err.Error()
		return denied
	}
	if err != nil {
		return fmt.Errorf("asking whether executor %s may grant what %s %q grants: %w; it is not applied before that is known", r.subject, denied.Resource, denied.Name, err)
	}
	return nil
}

// may asks about all names first: where the answer is yes, which is the rule, it answers for every manifest of the kind.
func (r *Round) may(ctx context.Context, verb string, req Request) (answer, error) {
	asked := question{
		subject: r.subject, verb: verb, group: req.Resource.Group, resource: req.Resource.Resource, namespace: req.Manifest.GetNamespace(),
	}
	found, err := r.ask(ctx, asked)
	if err != nil || found.allowed {
		return found, err
	}
	asked.name = req.Manifest.GetName()
	return r.ask(ctx, asked)
}

func (r *Round) ask(ctx context.Context, asked question) (answer, error) {
	if found, ok := r.answers[asked]; ok {
		return found, nil
	}
	found, keep, ok := r.checker.rights.remembered(asked)
	if !ok {
		var err error
		if found, err = r.checker.review(ctx, asked); err != nil {
			return answer{}, err
		}
		keep(found)
	}
	r.answers[asked] = found
	return found, nil
}

func (c *Checker) review(ctx context.Context, asked question) (answer, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: asked.subject, Groups: groupsOf(asked.subject),
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: asked.verb, Group: asked.group, Version: "*", Resource: asked.resource, Namespace: asked.namespace, Name: asked.name,
		},
	}}
	reviewed, err := c.reviews.Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return answer{}, err
	}
	return answer{allowed: reviewed.Status.Allowed && !reviewed.Status.Denied, because: reviewed.Status.EvaluationError}, nil
}

// grants reports whether objects of a resource give rights to somebody.
func grants(resource schema.GroupVersionResource) bool {
	return resource.Group == "rbac.authorization.k8s.io" || resource.Group == "authorization.openshift.io"
}

// rehearse creates the object as the subject, without effect. Before it looks whether the object is there already, the
// apiserver looks whether the subject has all the rights that it gives, or may give what it has not.
func (c *Checker) rehearse(ctx context.Context, subject string, req Request) error {
	as := rest.CopyConfig(c.cfg.REST)
	as.Impersonate = rest.ImpersonationConfig{UserName: subject} // the apiserver knows a service account's groups
	client, err := dynamic.NewForConfig(as)
	if err != nil {
		return fmt.Errorf("making a client for %s: %w", subject, err)
	}
	object := client.Resource(req.Resource).Namespace(req.Manifest.GetNamespace())
	_, err = object.Create(ctx, req.Manifest, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
