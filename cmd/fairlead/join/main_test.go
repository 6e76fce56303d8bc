// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/test/env"
)

// The test binary is the agent too, where this says how it behaves.
const agentVariable = "FAIRLEAD_TEST_AGENT"

func TestMain(m *testing.M) {
	if behaviour := os.Getenv(agentVariable); behaviour != "" && len(os.Args) > 1 {
		os.Exit(playAgent(behaviour, os.Args[1:]))
	}
	env.Main(m, env.Options{Name: "join", ControllerManager: true, Scheduler: true, Kwok: true, Nodes: 1})
}

// playAgent is what the CLI sees of an agent: a health page, a file of
// credentials, a log, and an end.
func playAgent(behaviour string, args []string) int {
	if args[0] == "version" {
		fmt.Println("fairlead devel")
		return 0
	}
	flags := map[string]string{}
	for _, arg := range args[1:] {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		flags[name] = value
	}
	if behaviour == "refused" {
		fmt.Fprintln(os.Stderr, `{"level":"INFO","msg":"the store is read"}`)
		fmt.Fprintln(os.Stderr, `agent: hub: TOKEN_USED: hub at h:1: join token "t" was used by another key already`)
		return 1
	}
	dir := flags["data-dir"]
	accepted := func() bool { _, err := os.Stat(filepath.Join(dir, "accepted")); return err == nil }
	data := map[string]string{keyCluster: flags["cluster-name"], keyHub: "hub-x", keyPairing: "ABCD-EFGH-IJKL", keyPending: "key"}
	write(dir, data)
	write(filepath.Join(dir, "seen"), map[string]string{"join": os.Getenv("FAIRLEAD_JOIN"), "args": strings.Join(args, " ")})
	fmt.Fprintln(os.Stderr, `{"level":"WARN","msg":"enrolling is not possible yet","error":"the hub sleeps"}`)
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !accepted() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		delete(data, keyPending)
		data[keyCertificate] = "chain"
		write(dir, data)
	})
	time.AfterFunc(time.Minute, func() { os.Exit(0) }) // should a test forget it
	fmt.Fprintln(os.Stderr, http.ListenAndServe(flags["http-listen"], mux))
	return 1
}

func write(dir string, data map[string]string) {
	raw, err := json.Marshal(data)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "credentials.new"), raw, 0o600)
	}
	if err == nil { // the file is whole at any time: it is read meanwhile
		err = os.Rename(filepath.Join(dir, "credentials.new"), filepath.Join(dir, "credentials.json"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
