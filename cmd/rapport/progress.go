package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progressEvery is how often progress is told where there is no terminal.
const progressEvery = 5 * time.Second

// progressWidth is that of a bar, in characters.
const progressWidth = 20

// progress shows how far something long is: as a bar on a terminal, and as a plain line every few seconds elsewhere, because a
// file or a journal keeps every carriage return. What is measured is always counted, such as events, rows or bytes. Not safe
// for concurrent use.
type progress struct {
	out      io.Writer
	terminal bool
	now      func() time.Time

	what  string
	begun time.Time
	told  time.Time
	bar   *progressbar.ProgressBar // nil before the first step is drawn
}

// progress begins to show something on stderr.
func (c *console) progress(what string) *progress {
	file, isFile := c.err.(*os.File)
	p := &progress{out: c.err, terminal: isFile && term.IsTerminal(int(file.Fd())), now: time.Now}
	p.begin(what)
	return p
}

// begin turns to the next part, whose rate and time left are its own.
func (p *progress) begin(what string) {
	p.what, p.bar = what, nil
	p.begun = p.now()
	p.told = p.begun
}

// step says that done of total is done, and what more there is to say. A total of 0 means that it is not known.
func (p *progress) step(done, total int64, text string) {
	if p.terminal {
		p.draw(done, total, text)
		return
	}
	if now := p.now(); now.Sub(p.told) >= progressEvery {
		p.told = now
		p.line(done, total, text)
	}
}

// end is the last step of a part. It is always told.
func (p *progress) end(done, total int64, text string) {
	if !p.terminal {
		p.line(done, total, text)
		return
	}
	p.draw(done, total, text)
	fmt.Fprintln(p.out)
}

func (p *progress) line(done, total int64, text string) {
	line := p.what + ": " + text
	if total > 0 {
		line += fmt.Sprintf(", %d %%", 100*min(done, total)/total)
	}
	fmt.Fprintln(p.out, line)
}

func (p *progress) draw(done, total int64, text string) {
	size := total
	if size <= 0 {
		size = -1 // a spinner
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(p.out), progressbar.OptionSetWidth(progressWidth), progressbar.OptionSetPredictTime(false))
	}
	if p.bar.GetMax64() != size {
		p.bar.ChangeMax64(size)
	}
	p.bar.Describe(p.what + ": " + text)
	p.bar.Set64(done)
}

// pace says how many there are, how fast they come, and how long the rest will take.
func (p *progress) pace(count int64, unit string, done, total int64) string {
	elapsed := max(p.now().Sub(p.begun), time.Millisecond)
	text := fmt.Sprintf("%d %s, %.0f a second", count, unit, float64(count)/elapsed.Seconds())
	if done > 0 && total > done {
		left := time.Duration(float64(elapsed) * float64(total-done) / float64(done))
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}
