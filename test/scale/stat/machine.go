// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package stat

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// Machine says what this ran on.
func Machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, after, ok := strings.Cut(string(text), "model name"); ok {
			line, _, _ := strings.Cut(after, "\n")
			model = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
		}
	}
	return fmt.Sprintf("%d CPUs, %s, %s/%s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH)
}

// Versions are those that figures depend on: of Go, and of modules.
func Versions(modules ...string) string {
	parts := []string{runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if slices.Contains(modules, m.Path) {
				parts = append(parts, m.Path[strings.LastIndexByte(m.Path, '/')+1:]+" "+m.Version)
			}
		}
	}
	return strings.Join(parts, ", ")
}
