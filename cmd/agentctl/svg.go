package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// The measures of the picture, in its units.
const (
	svgWidth  = 960
	svgNames  = 270 // Where the bars begin.
	svgBars   = 580 // How wide the whole boot is.
	svgRow    = 24
	svgTop    = 72
	svgBottom = 44
	svgTicks  = 5
)

// drawTimes draws a boot as bars over time, one below the other. The colors are
// apart in lightness too, and the text has its own for a dark page.
func drawTimes(out io.Writer, t bootTimes) error {
	var b strings.Builder
	height := svgTop + svgRow*len(t.Parts) + svgBottom
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`+"\n", svgWidth, height)
	b.WriteString(`<style>text{fill:#222}.dim{fill:#666}.grid{stroke:#ddd}.host{fill:#8a8f98}.kernel{fill:#2f6f9f}.agent{fill:#d98032}` +
		`.back{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#eee}.dim{fill:#aaa}.grid{stroke:#444}.back{fill:#16181c}}</style>` + "\n")
	fmt.Fprintf(&b, `<rect class="back" width="%d" height="%d"/>`+"\n", svgWidth, height)
	fmt.Fprintf(&b, `<text x="16" y="26" font-size="16" font-weight="600">Boot: ready in %s, shutdown %s</text>`+"\n", milliseconds(t.Ready), milliseconds(t.Shutdown))
	fmt.Fprintf(&b, `<text class="dim" x="16" y="46">%s</text>`+"\n", escaped(t.Note))
	drawGrid(&b, t, height)
	for i, p := range t.Parts {
		drawPart(&b, t, i, p)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// drawGrid draws lines at round times.
func drawGrid(b *strings.Builder, t bootTimes, height int) {
	step := roundStep(t.Ready / svgTicks)
	for at := time.Duration(0); at <= t.Ready; at += step {
		x := svgNames + int(svgBars*at/max(1, t.Ready))
		fmt.Fprintf(b, `<line class="grid" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", x, svgTop-8, x, height-svgBottom+6)
		fmt.Fprintf(b, `<text class="dim" x="%d" y="%d" text-anchor="middle">%.0f ms</text>`+"\n", x, height-svgBottom+24,
			float64(at)/float64(time.Millisecond))
	}
}

// roundStep is the next 1, 2 or 5 of a power of ten, of milliseconds at least.
func roundStep(d time.Duration) time.Duration {
	for unit := time.Millisecond; ; unit *= 10 {
		for _, step := range []time.Duration{unit, 2 * unit, 5 * unit} {
			if step >= d {
				return step
			}
		}
	}
}

func drawPart(b *strings.Builder, t bootTimes, i int, p bootPart) {
	const least = 1.5 // The least visible width of a bar.
	scale := svgBars / float64(max(1, t.Ready))
	y := svgTop + svgRow*i
	x, width := svgNames+float64(p.Start)*scale, max(least, float64(p.Took)*scale)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", svgNames-12, y+15, escaped(p.Name))
	fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n", partClass(i), x, y+3, width, svgRow-7)
	// After the bar, or before it if there is no room.
	const room = 70
	if x+width+room < svgWidth {
		fmt.Fprintf(b, `<text class="dim" x="%.1f" y="%d">%s</text>`+"\n", x+width+6, y+15, milliseconds(p.Took))
		return
	}
	fmt.Fprintf(b, `<text class="dim" x="%.1f" y="%d" text-anchor="end">%s</text>`+"\n", x-6, y+15, milliseconds(p.Took))
}

// partClass returns the class of a part: time of this host, of the kernel or of the
// agent.
func partClass(i int) string {
	switch i {
	case 0:
		return "host"
	case 1:
		return "kernel"
	}
	return "agent"
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // A builder never fails.
	return b.String()
}
