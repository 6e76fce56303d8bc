// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package stat

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// ReadCPU returns user and system time of a process, to 10 ms.
func ReadCPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return ParseCPU(text)
}

// ParseCPU reads the text of /proc/<pid>/stat.
func ParseCPU(text []byte) (time.Duration, error) {
	after := bytes.LastIndexByte(text, ')') // the name before it may have anything in it
	fields := bytes.Fields(text[after+1:])
	const user, system = 14 - 3, 15 - 3 // of proc(5), counted from the field after the name
	if after < 0 || len(fields) <= system {
		return 0, fmt.Errorf("%q is no /proc/<pid>/stat", text)
	}
	sum := time.Duration(0)
	for _, field := range [][]byte{fields[user], fields[system]} {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("times in /proc/<pid>/stat: %w", err)
		}
		sum += time.Duration(ticks) * tick
	}
	return sum, nil
}

// Memory is what of a process is in memory, in bytes.
type Memory struct{ RSS, Anonymous int64 }

// ReadMemory reads the memory of a process.
func ReadMemory(pid int) (Memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return Memory{}, err
	}
	return ParseMemory(text)
}

// ParseMemory reads the text of /proc/<pid>/smaps_rollup.
func ParseMemory(text []byte) (Memory, error) {
	found := map[string]int64{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("smaps_rollup, %q: %w", lines.Text(), err)
		}
		found[fields[0]] = kib << 10
	}
	rss, ok := found["Rss:"]
	if !ok {
		return Memory{}, fmt.Errorf("no Rss in smaps_rollup: %q", text)
	}
	return Memory{RSS: rss, Anonymous: found["Anonymous:"]}, lines.Err()
}
