// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	workv1 "open-cluster-management.io/api/work/v1"
)

// message is the first thing that keeps a work from being done, in words.
func (w *shown) message() string {
	if w.DeletionTimestamp != nil {
		if c := meta.FindStatusCondition(w.Status.Conditions, workv1.WorkDeleting); c != nil && c.Message != "" {
			return "being deleted: " + c.Message
		}
		return "being deleted"
	}
	if c := meta.FindStatusCondition(w.Status.Conditions, "Delivered"); c != nil && c.Status == "False" {
		return "not delivered: " + c.Message
	}
	for _, kind := range []string{workv1.WorkApplied, workv1.WorkAvailable} {
		c := meta.FindStatusCondition(w.Status.Conditions, kind)
		switch {
		case c == nil:
			return kind + " is not reported yet"
		case c.ObservedGeneration != w.Generation:
			return fmt.Sprintf("the spoke is at generation %d of %d", c.ObservedGeneration, w.Generation)
		case c.Status != "True":
			return kind + ": " + w.firstFault(kind, c.Message)
		}
	}
	return ""
}

// firstFault is what the spoke says of the first manifest that lacks a
// condition; without one it is what is said of the work.
func (w *shown) firstFault(kind, otherwise string) string {
	for _, m := range w.Status.ResourceStatus.Manifests {
		if c := meta.FindStatusCondition(m.Conditions, kind); c != nil && c.Status != "True" {
			return fmt.Sprintf("%s %s: %s", m.ResourceMeta.Kind, m.ResourceMeta.Name, c.Message)
		}
	}
	return otherwise
}

// feedback shows ready of wanted for workloads, else each value reported.
func feedback(w *shown) string {
	var out []string
	for _, m := range w.Status.ResourceStatus.Manifests {
		values := map[string]string{}
		var order []string
		for _, v := range m.StatusFeedbacks.Values {
			values[v.Name] = valueText(v.Value)
			order = append(order, v.Name)
		}
		if text := ready(values); text != "" {
			out = append(out, m.ResourceMeta.Name+"="+text)
			continue
		}
		for _, name := range order {
			out = append(out, fmt.Sprintf("%s.%s=%s", m.ResourceMeta.Name, name, values[name]))
		}
	}
	return strings.Join(out, ",")
}

// ready is the short form of well-known feedback; a count that is 0 is not
// reported by Kubernetes.
func ready(values map[string]string) string {
	for _, pair := range [][2]string{{"ReadyReplicas", "Replicas"}, {"NumberReady", "DesiredNumberScheduled"}} {
		if wanted := values[pair[1]]; wanted != "" {
			return zero(values[pair[0]]) + "/" + wanted
		}
	}
	switch {
	case values["PodPhase"] != "":
		return values["PodPhase"]
	case values["JobComplete"] == "True":
		return "Complete"
	}
	return ""
}

func zero(text string) string {
	if text == "" {
		return "0"
	}
	return text
}

func valueText(v workv1.FieldValue) string {
	switch {
	case v.Integer != nil:
		return strconv.FormatInt(*v.Integer, 10)
	case v.String != nil:
		return *v.String
	case v.Boolean != nil:
		return strconv.FormatBool(*v.Boolean)
	case v.JsonRaw != nil:
		return *v.JsonRaw
	}
	return ""
}
