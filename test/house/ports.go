// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports from firstPort on, as many as ports, are below those that the kernel gives
// to whoever asks for any: on Linux those from 32768 on.
const firstPort, ports = 20000, 12000

// FreeAddress is a loopback address that nobody listens on at the moment. Whoever
// is to listen there needs a while to start, so it is not given again soon, by any
// process of this machine, nor by the kernel.
func FreeAddress() (string, error) {
	file := filepath.Join(os.TempDir(), fmt.Sprintf("fairlead-ports-%d", os.Getuid()))
	unlock, err := lock(file)
	if err != nil {
		return "", err
	}
	defer unlock()
	written, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading which port was given last: %w", err)
	}
	last, _ := strconv.Atoi(string(written)) // 0 at first
	for range ports {
		last = (last + 1) % ports
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+last)
		listener, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("looking for a free port: %w", err)
		}
		return address, errors.Join(listener.Close(), os.WriteFile(file, []byte(strconv.Itoa(last)), 0o600))
	}
	return "", fmt.Errorf("each port from %d to %d is in use", firstPort, firstPort+ports-1)
}
