// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"time"
)

// lineRunes is how much of a line is shown where it is redrawn: a line that wraps
// could not be.
const lineRunes = 70

// Progress shows what a wait is waiting for: one line that is redrawn on a
// terminal, a new line for each change elsewhere. It is for one goroutine.
type Progress struct {
	o     *Options
	began time.Time
	last  string
	drawn bool
}

// Progress begins a wait.
func (o *Options) Progress() *Progress { return &Progress{o: o, began: o.Now()} }

// Sayf shows where the wait stands. The same words again only move the clock.
func (p *Progress) Sayf(format string, args ...any) {
	text := oneLine(fmt.Sprintf(format, args...))
	switch {
	case p.o.Terminal:
		shown := text
		if runes := []rune(text); len(runes) > lineRunes {
			shown = string(runes[:lineRunes]) + "…"
		}
		fmt.Fprintf(p.o.Err, "\r\x1b[K%s (%s)", shown, p.o.Now().Sub(p.began).Round(time.Second))
		p.drawn = true
	case text != p.last:
		p.o.Notef("%s", text)
	}
	p.last = text
}

// Break ends the line on a terminal, so that something else can be printed.
func (p *Progress) Break() {
	if p.drawn {
		fmt.Fprint(p.o.Err, "\r\x1b[K")
		p.drawn = false
	}
}
