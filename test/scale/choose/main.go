// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

// Command choose measures what it costs to choose clusters for placements:
// server/scheduling alone, without an apiserver, or with -loop the controller on a
// real one. What matters are ratios within one run: what one change costs, next to
// deciding everything anew.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"fairlead.dev/fairlead/test/scale/stat"
)

func main() {
	clusters := flag.Int("clusters", 10_000, "how many clusters")
	placements := flag.Int("placements", 200, "how many placements")
	changes := flag.Int("changes", 200, "how often each change is made")
	through := flag.Bool("loop", false, "measure the controller against a real apiserver")
	file := flag.String("write", "", "file for the figures, as Markdown")
	flag.Parse()
	measure := run
	if *through {
		measure = loopInto
	}
	if err := measure(*clusters, *placements, *changes, *file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(clusters, placements, changes int, file string) error {
	began := time.Now()
	f, err := newFleet(clusters, placements)
	if err != nil {
		return err
	}
	rows, err := f.measure(changes)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	printRows(&text, rows)
	if file == "" {
		_, err := os.Stdout.Write(text.Bytes())
		return err
	}
	head := fmt.Sprintf(`# What it costs to choose clusters

Written by the program in test/scale/choose. Ratios are the figures to keep: times are of one core of a machine
that did other things too.

- date: %s
- machine: %s
- versions: %s
- command: go run ./test/scale/choose -clusters %d -placements %d -write %s (took %s)

How it is measured: server/scheduling alone, no apiserver. All %d clusters are in one set, which is bound to four
namespaces with a quarter of the %d placements each. These select in turn by label (one cluster in 20, all of them
chosen), by claim (one in 10, 50 chosen by score), by CEL (one in 20, 20 chosen), and by label spread over regions
(10 chosen, DoNotSchedule). "All anew" is the time to decide every placement for the first time, filters included:
most of it goes into CEL, %d times.

`, began.Format(time.DateOnly), stat.Machine(), stat.Versions("github.com/google/cel-go", "k8s.io/apiserver"), clusters, placements, file,
		time.Since(began).Round(time.Second), clusters, placements, clusters*placements/4)
	_, loop := split(file)
	return os.WriteFile(file, []byte(head+text.String()+loop), 0o644)
}

// loopHead begins the part of the file that -loop writes.
const loopHead = "\n## Through the loop\n"

// split reads the two parts of a file; none where there is no file.
func split(file string) (alone, loop string) {
	text, _ := os.ReadFile(file)
	alone, loop, found := strings.Cut(string(text), loopHead)
	if found {
		loop = loopHead + loop
	}
	return alone, loop
}

func loopInto(clusters, placements, changes int, file string) error {
	began := time.Now()
	table, err := runLoop(context.Background(), clusters, placements, changes)
	if err != nil || file == "" {
		fmt.Fprint(os.Stdout, table)
		return err
	}
	alone, _ := split(file)
	return os.WriteFile(file, []byte(alone+loopHead+fmt.Sprintf(`
The same clusters and placements, without scores of add-ons, as objects of a real apiserver, and the hub's controller
of placements on it, alone in its process. CPU is that of this process, which also makes the changes and looks twice
a second whether all is decided. Reads are GETs, lists and watches. "Took" ends with the last write; the machine did
other things too, so CPU and counts are the figures to keep. Of each change the mean of %d.

- date: %s
- machine: %s
- versions: %s
- command: go run ./test/scale/choose -loop -clusters %d -placements %d -changes %d -write %s (took %s)

`, changes, began.Format(time.DateOnly), stat.Machine(), stat.Versions("k8s.io/apiserver", "sigs.k8s.io/controller-runtime"), clusters, placements, changes, file,
		time.Since(began).Round(time.Second))+table), 0o644)
}

// row is one figure; decided is how many placements were.
type row struct {
	what    string
	took    time.Duration // for one
	decided float64
	all     time.Duration // deciding all anew, to compare with; zero: nothing to compare
	note    string
}

func printRows(to io.Writer, rows []row) {
	fmt.Fprintf(to, "| what | took | placements decided | of all anew |\n| --- | --- | --- | --- |\n")
	for _, r := range rows {
		took, ratio := r.note, ""
		if r.note == "" {
			took = r.took.Round(roundTo(r.took)).String()
		}
		if r.all > 0 {
			ratio = fmt.Sprintf("%.3f %%", 100*float64(r.took)/float64(r.all))
		}
		decided := ""
		if r.note == "" {
			decided = strings.TrimSuffix(fmt.Sprintf("%.1f", r.decided), ".0")
		}
		fmt.Fprintf(to, "| %s | %s | %s | %s |\n", r.what, took, decided, ratio)
	}
}

func roundTo(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return time.Millisecond
	}
	return 100 * time.Nanosecond
}

// heap is what lives on it.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
