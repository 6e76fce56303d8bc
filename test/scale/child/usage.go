// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"time"
)

// Heap is what of a process's memory is in use, by its own account after a
// garbage collection.
type Heap struct {
	// Heap is what objects take; Spans also has the gaps between them, which the
	// next objects fill.
	Heap, Spans int64
	Stack       int64
	Goroutines  int
}

// cpu is user and system time so far, to the microsecond.
func cpu() (time.Duration, error) {
	var times syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &times); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(times.Utime.Nano() + times.Stime.Nano()), nil
}

// collections are what it takes until nothing changes any more: each halves a
// stack that is too large once, and pools live through one.
const collections = 6

// collect gives back all that can be given back, as some minutes of idling do.
func collect() (Heap, error) {
	for range collections {
		runtime.GC()
	}
	debug.FreeOSMemory()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return Heap{
		Heap: int64(memory.HeapAlloc), Spans: int64(memory.HeapInuse), Stack: int64(memory.StackInuse), Goroutines: runtime.NumGoroutine(),
	}, nil
}

// ProfileRequest asks for a profile of the child.
type ProfileRequest struct {
	// Kind is "cpu", begun with Begin and written without, or the name of one of
	// package pprof.
	Kind  string
	Begin bool
	// File is where it goes.
	File string
}

// profileRate is in Hz: steps are short.
const profileRate = 1000

type profiler struct{ file *os.File }

func (p *profiler) do(_ context.Context, r ProfileRequest) (None, error) {
	if r.Kind == "cpu" && !r.Begin {
		pprof.StopCPUProfile()
		return None{}, p.file.Close()
	}
	file, err := os.Create(filepath.Clean(r.File))
	if err != nil {
		return None{}, err
	}
	if r.Kind == "cpu" {
		p.file = file
		runtime.SetCPUProfileRate(profileRate) // StartCPUProfile complains of it and goes on at this rate
		return None{}, pprof.StartCPUProfile(file)
	}
	if err := pprof.Lookup(r.Kind).WriteTo(file, 0); err != nil {
		return None{}, err
	}
	return None{}, file.Close()
}
