// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/deploy"
)

// podSelector finds the agent's Pods.
const podSelector = "app.kubernetes.io/name=fairlead-agent"

// annotationToken is on the agent's Pods, so that another join string starts the
// agent anew (RA-18): the id of the token, not its secret.
const annotationToken = "fairlead.dev/join-token" //nolint:gosec // a name

// deployment is an agent in its own cluster.
type deployment struct{ *spoke }

func (d *deployment) hint() string {
	return fmt.Sprintf("«kubectl -n %s logs deployment/%s» shows the agent's log", namespace, account)
}

func (d *deployment) start(ctx context.Context) error {
	object := &appsv1.Deployment{}
	if err := yaml.UnmarshalStrict(deploy.AgentDeployment(), object); err != nil {
		return fmt.Errorf("an embedded manifest: %w", err)
	}
	container := &object.Spec.Template.Spec.Containers[0]
	container.Image = d.image
	container.Args = append(container.Args, "--cluster-name="+d.name)
	id, _, _ := strings.Cut(d.join.Token, ".")
	object.Spec.Template.Annotations = map[string]string{annotationToken: id}
	if err := d.proxyOf(ctx, object); err != nil {
		return err
	}
	if err := d.applyTyped(ctx, object); err != nil {
		return err
	}
	d.o.Notef("Agent started as Deployment %s/%s", namespace, account)
	return nil
}

func (d *deployment) state(ctx context.Context) (state, error) {
	secret, err := d.kube.CoreV1().Secrets(namespace).Get(ctx, credentials, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return state{}, fmt.Errorf("reading the agent's credentials: %w", err)
	}
	known := stateOf(secret.Data)
	pods, err := d.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: podSelector})
	if err != nil {
		return known, fmt.Errorf("looking at the agent's Pods: %w", err)
	}
	for i := range pods.Items {
		ready, trouble := look(&pods.Items[i])
		known.connected = known.connected || (ready && known.joined())
		known.trouble = or(known.trouble, trouble)
	}
	return known, nil
}

// look tells whether a Pod is ready, or else what keeps it from running.
func look(pod *corev1.Pod) (ready bool, trouble string) {
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue:
			return true, ""
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			trouble = c.Message
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Message != "":
			trouble = c.State.Waiting.Reason + ": " + c.State.Waiting.Message
		case c.LastTerminationState.Terminated != nil:
			trouble = ended(c.LastTerminationState.Terminated)
		}
	}
	return false, trouble
}

// ended says how an agent ended, in its last words if it had some.
func ended(how *corev1.ContainerStateTerminated) string {
	lines := strings.Split(strings.TrimSpace(how.Message), "\n")
	if words, is := strings.CutPrefix(lines[len(lines)-1], lastWordsPrefix); is {
		return "the agent ended: " + words
	}
	return fmt.Sprintf("the agent ended with code %d", how.ExitCode)
}
