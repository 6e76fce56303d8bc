// Copyright The Fairlead Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"sync"
	"time"
)

// lineRunes is how much of a line is shown where it is redrawn: a line that wraps
// could not be.
const lineRunes = 70

// Progress shows what a wait is waiting for: one line that is redrawn on a
// terminal, with a clock, and a new line for each change elsewhere. It is safe
// for concurrent use.
type Progress struct {
	o     *Options
	began time.Time

	mu    sync.Mutex
	last  string
	drawn bool
}

// Progress begins a wait.
func (o *Options) Progress() *Progress { return &Progress{o: o, began: o.Now()} }

// While runs a wait and keeps the clock going meanwhile.
func (p *Progress) While(wait func() error) error {
	var group sync.WaitGroup
	done := make(chan struct{})
	group.Go(func() { p.tick(done) })
	err := wait()
	close(done)
	group.Wait()
	p.Break()
	return err
}

func (p *Progress) tick(done <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			p.mu.Lock()
			if p.drawn {
				p.draw()
			}
			p.mu.Unlock()
		}
	}
}

// Sayf shows where the wait stands.
func (p *Progress) Sayf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := oneLine(fmt.Sprintf(format, args...))
	news := text != p.last
	p.last = text
	switch {
	case p.o.Terminal:
		p.draw()
	case news:
		p.o.Notef("%s", text)
	}
}

func (p *Progress) draw() {
	shown := p.last
	if runes := []rune(shown); len(runes) > lineRunes {
		shown = string(runes[:lineRunes]) + "…"
	}
	fmt.Fprintf(p.o.Err, "\r\x1b[K%s (%s)", shown, p.o.Now().Sub(p.began).Round(time.Second))
	p.drawn = true
}

// Break ends the line on a terminal, so that something else can be printed.
func (p *Progress) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.o.Err, "\r\x1b[K")
		p.drawn = false
	}
}
