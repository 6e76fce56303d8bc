// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok"} {
		if found := find(name); found == nil || found.name != name {
			t.Errorf("find(%q) = %v", name, found)
		}
	}
	if found := find("kubelet"); found != nil {
		t.Errorf("find(kubelet) = %v", found)
	}
}

func TestUsageNamesEveryComponent(t *testing.T) {
	var usage strings.Builder
	printUsage(&usage)
	for _, c := range components() {
		if !strings.Contains(usage.String(), c.name) || !strings.Contains(usage.String(), c.help) {
			t.Errorf("usage lacks %q:\n%s", c.name, usage.String())
		}
	}
}

func TestBuiltinStages(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	path, err := builtinStages([]string{"--kubeconfig=x", "--manage-all-nodes=true"})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"node-initialize", "node-heartbeat-with-lease", "pod-ready", "pod-complete", "pod-delete"} {
		if !strings.Contains(string(content), "name: "+stage+"\n") {
			t.Errorf("the built-in stages lack %s", stage)
		}
	}
	for _, args := range [][]string{{"--config=mine.yaml"}, {"--config", "mine.yaml"}, {"-c", "mine.yaml"}} {
		if path, err := builtinStages(args); path != "" || err != nil {
			t.Errorf("builtinStages(%q) = %q, %v: the caller's configuration must win", args, path, err)
		}
	}
}

func TestExitWithParentRejectsNonsense(t *testing.T) {
	t.Setenv(exitWithParentVariable, "yes")
	if err := exitWithParent(); err == nil || !strings.Contains(err.Error(), `"yes"`) {
		t.Errorf("exitWithParent() = %v", err)
	}
}
