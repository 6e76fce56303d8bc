// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Package version says which build this is. It reads what the Go toolchain
// stamped into the binary; nothing is set at link time and nothing can change
// it at run time.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Info describes a build.
type Info struct {
	// Version is the module version, or "devel" for a build from a work tree.
	Version string
	// Commit is the revision that was built, with "-dirty" when files were
	// changed; empty when the toolchain did not know.
	Commit string
	// Go is the toolchain.
	Go string
	// Platform is operating system and architecture.
	Platform string
}

// Get reads the build of the running binary.
func Get() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return from(build)
}

// String is one line for people.
func (i Info) String() string {
	commit := ""
	if i.Commit != "" {
		commit = " (" + i.Commit + ")"
	}
	return fmt.Sprintf("fairlead %s%s %s %s", i.Version, commit, i.Go, i.Platform)
}

func from(build *debug.BuildInfo) Info {
	info := Info{Version: build.Main.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info.Version == "" || info.Version == "(devel)" {
		info.Version = "devel"
	}
	settings := make(map[string]string, len(build.Settings))
	for _, s := range build.Settings {
		settings[s.Key] = s.Value
	}
	info.Commit = settings["vcs.revision"]
	if info.Commit != "" && settings["vcs.modified"] == "true" {
		info.Commit += "-dirty"
	}
	return info
}
