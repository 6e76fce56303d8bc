// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

const snapshotUsage = `usage:
  devplane etcd-snapshot save ENDPOINT FILE               write the state of the running etcd to FILE
  devplane etcd-snapshot restore FILE DATA-DIR PEER-URL   make DATA-DIR (which must not exist) from FILE,
                                                          for a single etcd with --name=default
`

// runSnapshot saves a running etcd to a file, or makes a data directory from one.
func runSnapshot() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	manager := snapshot.NewV3(zap.NewNop())
	args := os.Args[1:]
	var err error
	switch {
	case len(args) == 3 && args[0] == "save":
		_, err = manager.Save(ctx, clientv3.Config{Endpoints: []string{args[1]}}, args[2])
	case len(args) == 4 && args[0] == "restore":
		err = manager.Restore(snapshot.RestoreConfig{
			SnapshotPath:        args[1],
			Name:                "default",
			OutputDataDir:       args[2],
			PeerURLs:            []string{args[3]},
			InitialCluster:      "default=" + args[3],
			InitialClusterToken: "etcd-cluster",
		})
	default:
		fmt.Fprint(os.Stderr, snapshotUsage)
		return 2
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "devplane etcd-snapshot %s: %v\n", args[0], err)
		return 1
	}
	return 0
}
