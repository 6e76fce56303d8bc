// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo runs Fairlead's main job on this machine, with real Kubernetes
// and the real binaries: a hub and two spokes, both enrolled, a work applied,
// changed, healed and kept through SIGKILL; then a Placement that chooses, replica
// sets that follow it and roll out, and the end of all of them. Every fact it
// prints is read back from an apiserver, and it exits 0 only if all of it happened.
// With KEEP=1 it leaves everything running.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit bounds a run that hangs; a warm one takes well under a minute.
const limit = 20 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Getenv("KEEP") != "")
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nThe demo failed: %v\n", err)
		os.Exit(1)
	}
}

// run tells the story, and with keep leaves the world to the person for as long
// as they like: the limit is for the story alone.
func run(ctx context.Context, keep bool) (err error) {
	d := &demo{began: time.Now(), keep: keep}
	defer func() { d.close(err != nil) }()
	if err := d.story(ctx); err != nil {
		return err
	}
	fmt.Printf("\nAll of it happened, in %s.\n", time.Since(d.began).Round(100*time.Millisecond))
	if !keep {
		fmt.Println("Next: «make demo KEEP=1» leaves it running to play with; README.md says what you saw.")
		return nil
	}
	return d.leave(ctx)
}

// story takes the steps; each returns an error unless it really happened.
func (d *demo) story(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Start real Kubernetes: one hub and two spokes", d.startPlanes},
		{"Start the hub", d.startHub},
		{"Make join strings: spoke-1 needs a pairing code, spoke-2's token accepts by itself", d.makeTokens},
		{"Start the agents on the spokes (opt-in of the spokes)", d.startAgents},
		{"Accept spoke-1 by the pairing code of its very key (opt-in of the hub)", d.accept},
		{"Send a work of Namespace, ConfigMap, Service and Deployment to both", d.createWork},
		{"Edit the work: three replicas, another greeting", d.editWork},
		{"Change and delete things on spoke-1 by hand, and see them healed", d.heal},
		{"Kill the hub and an agent with SIGKILL: nothing is deleted or applied again", d.kill},
		{"Ask where the work stands", d.explain},
		{"Say what kind of cluster is wanted: a Placement chooses one of the two, a ManifestWorkReplicaSet sends its work there", d.choose},
		{"Take a label away: the choice changes and the work moves", d.move},
		{"Roll out a ManifestWorkReplicaSet and a change of it, one cluster after the other", d.rollOut},
		{"Delete the work and the replica sets", d.deleteAll},
	} {
		if err := d.step(ctx, step.title, step.do); err != nil {
			return err
		}
	}
	return nil
}
