// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"fmt"
	"os"
	"syscall"
)

// port is a TCP port on 127.0.0.1 that is ours from reservePort to release. We
// keep a bound socket that does not listen; the apiserver binds beside it
// (--permit-port-sharing), so the port stays ours while the apiserver restarts
// and no other process can be given it in between.
type port struct {
	number int
	socket int
}

func reservePort() (*port, error) {
	syscall.ForkLock.RLock() // children must not inherit the socket
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("reserving a port: %w", os.NewSyscallError("socket", err))
	}
	p := &port{socket: socket}
	if err := p.bind(); err != nil {
		p.release()
		return nil, fmt.Errorf("reserving a port on 127.0.0.1: %w", err)
	}
	return p, nil
}

func (p *port) bind() error {
	if err := syscall.SetsockoptInt(p.socket, syscall.SOL_SOCKET, soReusePort, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(p.socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(p.socket)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	address, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return fmt.Errorf("the kernel named the socket %T", name)
	}
	p.number = address.Port
	return nil
}

func (p *port) release() { _ = syscall.Close(p.socket) }
