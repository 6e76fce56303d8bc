// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	workv1 "open-cluster-management.io/api/work/v1"

	"fairlead.dev/fairlead/test/house"
)

// manifests is the folder of what the demo sends; `make demo` runs at the root.
const manifests = "test/demo/manifests"

var pairingCode = regexp.MustCompile(`\b[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}\b`)

// ready waits until the spoke has the content and the hub's apiserver has the
// spoke's report of it, for the work's very generation, and returns how long
// that was after began.
func (d *demo) ready(ctx context.Context, s *spoke, began time.Time, replicas int64, greeting string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := house.Until(ctx, fmt.Sprintf("%s to report %d ready replicas", s.name, replicas), func(ctx context.Context) (bool, error) {
		config, err := s.kube.CoreV1().ConfigMaps(work).Get(ctx, work, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if config.Data["greeting"] != greeting {
			return false, fmt.Errorf("the ConfigMap on %s says %q", s.name, config.Data["greeting"])
		}
		return d.reported(ctx, s, replicas)
	}, d.hub.Process, s.agent.Process)
	return time.Since(began).Round(10 * time.Millisecond), err
}

// reported reads the work's status from the hub's apiserver.
func (d *demo) reported(ctx context.Context, s *spoke, replicas int64) (bool, error) {
	stored, err := d.works.WorkV1().ManifestWorks(s.name).Get(ctx, work, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	for _, kind := range []string{workv1.WorkApplied, workv1.WorkAvailable} {
		c := meta.FindStatusCondition(stored.Status.Conditions, kind)
		if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != stored.Generation {
			return false, fmt.Errorf("condition %s of generation %d: %+v", kind, stored.Generation, c)
		}
	}
	for _, m := range stored.Status.ResourceStatus.Manifests {
		for _, v := range m.StatusFeedbacks.Values {
			if v.Name == "ReadyReplicas" && v.Value.Integer != nil {
				return *v.Value.Integer == replicas, fmt.Errorf("ReadyReplicas is %d", *v.Value.Integer)
			}
		}
	}
	return false, errors.New("no ReadyReplicas reported")
}

// gone waits until spoke and hub have nothing left of the work.
func (d *demo) gone(ctx context.Context, s *spoke) error {
	return house.Until(ctx, "nothing left on "+s.name, func(ctx context.Context) (bool, error) {
		_, errNamespace := s.kube.CoreV1().Namespaces().Get(ctx, work, metav1.GetOptions{})
		_, errWork := d.works.WorkV1().ManifestWorks(s.name).Get(ctx, work, metav1.GetOptions{})
		return apierrors.IsNotFound(errNamespace) && apierrors.IsNotFound(errWork), fmt.Errorf("namespace: %w, work: %w", errNamespace, errWork)
	}, d.hub.Process, s.agent.Process)
}

// healLimit is how long a change by hand may stay.
const healLimit = time.Second

// heal changes and deletes by hand and measures how long it stays so.
func (d *demo) heal(ctx context.Context) error {
	s := d.spokes[0]
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	patch := []byte(`{"data":{"greeting":"changed by hand"}}`)
	if _, err := s.kube.CoreV1().ConfigMaps(work).Patch(ctx, work, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	began := time.Now()
	err := s.healed(ctx, "the ConfigMap changed by hand was healed", func(ctx context.Context) (bool, error) {
		config, err := s.kube.CoreV1().ConfigMaps(work).Get(ctx, work, metav1.GetOptions{})
		return err == nil && config.Data["greeting"] == "Hello again", err
	})
	if err != nil {
		return err
	}
	if _, err := d.ready(ctx, s, began, 3, "Hello again"); err != nil {
		return err
	}
	before, err := s.kube.AppsV1().Deployments(work).Get(ctx, work, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if err := s.kube.AppsV1().Deployments(work).Delete(ctx, work, metav1.DeleteOptions{}); err != nil {
		return err
	}
	began = time.Now()
	err = s.healed(ctx, "the Deployment deleted by hand was back", func(ctx context.Context) (bool, error) {
		after, err := s.kube.AppsV1().Deployments(work).Get(ctx, work, metav1.GetOptions{})
		return err == nil && after.UID != before.UID, err
	})
	if err != nil {
		return err
	}
	if err := d.rolledOut(ctx, s); err != nil {
		return err
	}
	_, err = d.ready(ctx, s, began, 3, "Hello again")
	return err
}

// healed waits until what was done by hand a moment ago is undone, says how
// long that took, and fails if it was too long.
func (s *spoke) healed(ctx context.Context, what string, undone func(context.Context) (bool, error)) error {
	began := time.Now()
	if err := house.Until(ctx, what, undone, s.agent.Process); err != nil {
		return err
	}
	took := time.Since(began).Round(time.Millisecond)
	if took > healLimit {
		return fmt.Errorf("%s after %s, which is more than %s", what, took, healLimit)
	}
	sayf("%s after %s, of %s that are allowed", what, took, healLimit)
	return nil
}

// rolledOut waits until the spoke's own controllers have nothing more to write
// into the new Deployment: from then on only an agent would change its version.
func (d *demo) rolledOut(ctx context.Context, s *spoke) error {
	return house.Until(ctx, "the Deployment to be rolled out", func(ctx context.Context) (bool, error) {
		deployment, err := s.kube.AppsV1().Deployments(work).Get(ctx, work, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		status := deployment.Status
		if status.ObservedGeneration != deployment.Generation || status.AvailableReplicas != *deployment.Spec.Replicas {
			return false, fmt.Errorf("status %+v", status)
		}
		for _, c := range status.Conditions {
			if c.Type == appsv1.DeploymentProgressing && c.Reason == "NewReplicaSetAvailable" {
				return true, nil
			}
		}
		return false, fmt.Errorf("conditions %+v", status.Conditions)
	}, s.agent.Process)
}

// identities are the UID and resourceVersion of what the agent applied: equal
// ones prove that nothing was deleted or written again.
func (d *demo) identities(ctx context.Context, s *spoke) (map[string]string, error) {
	namespace, errNamespace := s.kube.CoreV1().Namespaces().Get(ctx, work, metav1.GetOptions{})
	config, errConfig := s.kube.CoreV1().ConfigMaps(work).Get(ctx, work, metav1.GetOptions{})
	service, errService := s.kube.CoreV1().Services(work).Get(ctx, work, metav1.GetOptions{})
	deployment, errDeployment := s.kube.AppsV1().Deployments(work).Get(ctx, work, metav1.GetOptions{})
	if err := errors.Join(errNamespace, errConfig, errService, errDeployment); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for kind, object := range map[string]metav1.Object{"Namespace": namespace, "ConfigMap": config, "Service": service, "Deployment": deployment} {
		out[kind] = fmt.Sprintf("%s at %s", object.GetUID(), object.GetResourceVersion())
	}
	return out, nil
}

// kill ends hub and agent without a word, starts them again, and compares.
func (d *demo) kill(ctx context.Context) error {
	s := d.spokes[0]
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	before, err := d.identities(ctx, s)
	if err != nil {
		return err
	}
	d.hub.Kill()
	s.agent.Kill()
	sayf("hub and agent of %s killed; the spoke goes on as it is", s.name)
	if err := s.agent.Launch(); err != nil {
		return err
	}
	if err := d.healWithoutHub(ctx, s, before); err != nil {
		return err
	}
	if err := d.hub.Launch(); err != nil {
		return err
	}
	if err := d.hub.Ready(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := d.edit(ctx, "3", "Hello after the crash"); err != nil {
		return err
	}
	took, err := d.ready(ctx, s, began, 3, "Hello after the crash")
	if err != nil {
		return err
	}
	sayf("an edit made at once after the restart arrived and was reported after %s", took)
	after, err := d.identities(ctx, s)
	if err != nil {
		return err
	}
	for kind, was := range before {
		if kind != "ConfigMap" && after[kind] != was {
			return fmt.Errorf("the %s on %s was %s and is %s: it was deleted or written again", kind, s.name, was, after[kind])
		}
	}
	sayf("hub and agent are back without a human; Namespace, Service and Deployment have the same UID and resourceVersion as before")
	return nil
}

// healWithoutHub shows that a restarted agent corrects drift while no hub is
// there, from what it stored.
func (d *demo) healWithoutHub(ctx context.Context, s *spoke, before map[string]string) error {
	patch := []byte(`{"data":{"greeting":"changed while the hub is gone"}}`)
	if _, err := s.kube.CoreV1().ConfigMaps(work).Patch(ctx, work, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	began := time.Now()
	err := house.Until(ctx, "the ConfigMap to be healed without a hub", func(ctx context.Context) (bool, error) {
		config, err := s.kube.CoreV1().ConfigMaps(work).Get(ctx, work, metav1.GetOptions{})
		return err == nil && config.Data["greeting"] == "Hello again", err
	}, s.agent.Process)
	if err != nil {
		return err
	}
	sayf("the restarted agent healed a change while the hub was gone, in %s", time.Since(began).Round(10*time.Millisecond))
	after, err := d.identities(ctx, s)
	if err == nil && after["Deployment"] != before["Deployment"] {
		return fmt.Errorf("the Deployment was %s and is %s", before["Deployment"], after["Deployment"])
	}
	return err
}
