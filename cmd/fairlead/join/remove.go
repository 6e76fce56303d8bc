// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/cmd/fairlead/cli"
	"fairlead.dev/fairlead/deploy"
	"fairlead.dev/fairlead/internal/kube"
)

const (
	// stopGrace is how long an agent may take to end before it is killed.
	stopGrace = 15 * time.Second
	// labelStore marks the Secrets in which an agent keeps what it received: see
	// agent/store.
	labelStore = "fairlead.dev/store"
)

// stopDeployment ends an agent in the cluster and waits for its Pods to go.
func (u *unjoin) stopDeployment(ctx context.Context) error {
	err := u.kube.AppsV1().Deployments(namespace).Delete(ctx, account, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting Deployment %s/%s: %w", namespace, account, err)
	}
	bounded, cancel := u.o.Wait(ctx)
	defer cancel()
	for {
		pods, err := u.kube.CoreV1().Pods(namespace).List(bounded, metav1.ListOptions{LabelSelector: podSelector})
		if err != nil {
			return fmt.Errorf("looking for the agent's Pods: %w", err)
		}
		if len(pods.Items) == 0 {
			u.o.Notef("Removed: Deployment %s/%s", namespace, account)
			return nil
		}
		if err := cli.Pause(bounded, lookEvery); err != nil {
			return cli.TimedOut(fmt.Errorf("the agent's Pod %s does not end in time\nHint: the same command again goes on from here", pods.Items[0].Name))
		}
	}
}

// stopProcess ends an agent that «fairlead join» started here.
func (u *unjoin) stopProcess(ctx context.Context) error {
	p := &u.process
	raw, err := os.ReadFile(p.file())
	if err != nil || json.Unmarshal(raw, &p.running) != nil || p.ask(ctx, "/livez") != nil {
		return nil //nolint:nilerr // nothing of ours runs here
	}
	running, err := os.FindProcess(p.running.PID)
	if err == nil {
		err = running.Signal(os.Interrupt)
	}
	for deadline := time.Now().Add(stopGrace); err == nil && p.ask(ctx, "/livez") == nil; err = cli.Pause(ctx, lookEvery) {
		if time.Now().After(deadline) {
			if err = running.Kill(); err != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("ending the agent, process %d: %w", p.running.PID, err)
	}
	u.o.Notef("Ended: the agent, process %d", p.running.PID)
	return nil
}

// remove takes off the cluster, and off this machine, what «fairlead join» wrote.
func (u *unjoin) remove(ctx context.Context) error {
	secrets := u.kube.CoreV1().Secrets(namespace)
	if err := secrets.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: labelStore}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("removing what the agent received: %w", err)
	}
	for _, name := range []string{joinSecret, proxySecret, credentials} {
		if err := secrets.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing Secret %s/%s: %w", namespace, name, err)
		}
	}
	err := u.kube.RbacV1().ClusterRoleBindings().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: labelRole})
	if err != nil {
		return fmt.Errorf("removing what works may do: %w", err)
	}
	docs := deploy.AgentManifests()
	slices.Reverse(docs) // what was made last goes first
	for _, doc := range docs {
		if err := u.removeOne(ctx, doc); err != nil {
			return err
		}
	}
	u.o.Notef("Removed: the agent's ServiceAccount, rights and credentials")
	return errors.Join(u.removeNamespace(ctx), u.removeCRDs(ctx), u.removeFiles())
}

func (u *unjoin) removeOne(ctx context.Context, doc []byte) error {
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(doc, &object.Object); err != nil {
		return fmt.Errorf("an embedded manifest: %w", err)
	}
	if object.GetKind() == "Namespace" {
		return nil // it is looked at when all else is gone
	}
	err := u.dynamic.Resource(resources()[object.GetKind()]).Namespace(object.GetNamespace()).Delete(ctx, object.GetName(), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("removing %s %q: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// removeCRDs removes the agent's kinds, if nobody else installed or uses them.
func (u *unjoin) removeCRDs(ctx context.Context) error {
	crds := u.dynamic.Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
	for _, doc := range deploy.SpokeCRDs() {
		var wanted metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &wanted); err != nil {
			return fmt.Errorf("an embedded CRD: %w", err)
		}
		found, err := crds.Get(ctx, wanted.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err == nil {
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &crd)
		}
		if err != nil {
			return fmt.Errorf("reading CRD %q: %w", wanted.Name, err)
		}
		used, err := u.used(ctx, &crd)
		if err != nil {
			return err
		}
		if used != "" {
			u.o.Notef("Left alone: CRD %s: %s", crd.Name, used)
			continue
		}
		if err := crds.Delete(ctx, crd.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &crd.UID}}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing CRD %q: %w", crd.Name, err)
		}
		u.o.Notef("Removed: CRD %s", crd.Name)
	}
	return nil
}

// used says why a CRD has to stay, or nothing.
func (u *unjoin) used(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) (string, error) {
	for _, entry := range crd.ManagedFields {
		if entry.Subresource == "" && entry.Manager != kube.FieldManager {
			return "it is " + entry.Manager + "'s too", nil
		}
	}
	for _, version := range crd.Spec.Versions {
		if !version.Served {
			continue
		}
		resource := schema.GroupVersionResource{Group: crd.Spec.Group, Version: version.Name, Resource: crd.Spec.Names.Plural}
		list, err := u.dynamic.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return "", fmt.Errorf("looking for any %s: %w", resource.GroupResource(), err)
		}
		if len(list.Items) > 0 {
			return "there are objects of it", nil
		}
	}
	return "", nil
}

// removeFiles removes what an agent outside of the cluster left in its folder.
func (u *unjoin) removeFiles() error {
	if _, err := os.Stat(u.dataDir); err != nil {
		return nil //nolint:nilerr // there is none
	}
	var problems []error
	for _, name := range []string{"credentials.json", "pairing-code", "spoke.kubeconfig", "store", keyProxyCA, "agent.json", "agent.log"} {
		problems = append(problems, os.RemoveAll(filepath.Join(u.dataDir, name)))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("removing the agent's files: %w", err)
	}
	_ = os.Remove(u.dataDir) // what somebody else put there keeps it
	u.o.Notef("Removed: the agent's files in %s", u.dataDir)
	return nil
}
