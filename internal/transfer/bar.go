package transfer

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// A Meter says how far a copy is, as a line of a terminal.
type Meter struct {
	plan  *Plan
	done  *Progress
	start time.Time
}

// NewMeter returns a meter of a copy that starts at a time.
func NewMeter(p *Plan, done *Progress, start time.Time) *Meter { return &Meter{p, done, start} }

// Line is the state at a time, in at most width columns.
func (m *Meter) Line(now time.Time, width int) string {
	files, bytes := m.done.Files.Load(), m.done.Bytes.Load()
	took := now.Sub(m.start)
	share := m.share(files, bytes)
	rate := float64(bytes) / max(took.Seconds(), minTook)
	text := fmt.Sprintf(" %3.0f%%  %d/%d files  %s/%s  %s/s  %s", 100*share, files, m.plan.Files,
		Size(bytes), Size(m.plan.Bytes), Size(int64(rate)), m.left(took, share))
	const frame, least, most = 2, 10, 40
	room := min(width-len(text)-frame-1, most)
	if room < least {
		return cut(text[1:], width-1)
	}
	full := int(share * float64(room))
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", room-full) + "]" + text
}

// minTook keeps a rate finite before the first tick.
const minTook = 0.001

// fileCost is how many bytes a file counts as, beside its own: what the link could
// carry in the time that a small file takes. So the time left is about right both
// for many small files and for a large one.
const fileCost = 32 << 10

// share is the part that is done, by work and not by bytes alone.
func (m *Meter) share(files, bytes int64) float64 {
	all := float64(m.plan.Bytes) + fileCost*float64(m.plan.Files)
	if all == 0 {
		return 1
	}
	return max(0, min(1, (float64(bytes)+fileCost*float64(files))/all))
}

func (m *Meter) left(took time.Duration, share float64) string {
	const enough = 0.01 // Before that it would jump.
	if share < enough {
		return "-- left"
	}
	left := time.Duration(math.Ceil(float64(took)*(1-share)/share/float64(time.Second))) * time.Second
	return left.String() + " left"
}

// Summary says what a copy that is over has done.
func (m *Meter) Summary(now time.Time) string {
	took := now.Sub(m.start)
	bytes := m.done.Bytes.Load()
	s := fmt.Sprintf("%d files, %s in %s (%s/s)", m.done.Files.Load(), Size(bytes),
		took.Round(10*time.Millisecond), Size(int64(float64(bytes)/max(took.Seconds(), minTook))))
	if m.plan.Skipped > 0 {
		s += fmt.Sprintf(", %d unchanged", m.plan.Skipped)
	}
	return s
}

func cut(s string, width int) string { return s[:max(0, min(len(s), width))] }

// Size is a number of bytes as a person reads it.
func Size(n int64) string {
	const step = 1024
	v, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; v >= step && i < len(units)-1; i++ {
		v /= step
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
