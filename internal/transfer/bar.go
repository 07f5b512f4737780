package transfer

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Meter shows the progress of a copy in a line of a terminal.
type Meter struct {
	plan  *Plan
	done  *Progress
	start time.Time
}

// NewMeter returns a meter of a copy that starts at a time.
func NewMeter(p *Plan, done *Progress, start time.Time) *Meter { return &Meter{p, done, start} }

// Line returns the progress at a time, in at most width columns. Its parts keep their
// places while the numbers grow. If there is too little room, the less important parts
// are left out.
func (m *Meter) Line(now time.Time, width int) string {
	done, bytes := m.done.Files.Load(), m.done.Bytes.Load()
	took := now.Sub(m.start)
	share := m.share(done, bytes)
	total := strconv.Itoa(m.plan.Files)
	percent := fmt.Sprintf("%3.0f%%", 100*share)
	files := fmt.Sprintf("%*d/%s files", len(total), done, total)
	size := fmt.Sprintf("%*s/%s", sizeColumns, Size(bytes), Size(m.plan.Bytes))
	rate, left := rate(bytes, took), left(took, share)
	return fit(share, width, []string{percent, files, size, rate, left}, []string{percent, files, rate, left}, []string{percent, files, left}, []string{percent, left})
}

// BytesLine returns the line for a transfer that counts only bytes; took is the time
// since its start. The line is empty while the total is unknown.
func BytesLine(done, all int64, took time.Duration, width int) string {
	if all == 0 {
		return ""
	}
	share := min(1, float64(done)/float64(all))
	percent, size := fmt.Sprintf("%3.0f%%", 100*share), fmt.Sprintf("%*s/%s", sizeColumns, Size(done), Size(all))
	rate, left := rate(done, took), left(took, share)
	return fit(share, width, []string{percent, size, rate, left}, []string{percent, rate, left}, []string{percent, left})
}

// fit returns a bar and all parts of a line, or as many parts as there is room for.
func fit(share float64, width int, all []string, fewer ...[]string) string {
	if room := min(width-len(parts(all))-len("[] "), mostBar); room >= leastBar {
		full := int(share * float64(room))
		return "[" + strings.Repeat("#", full) + strings.Repeat("-", room-full) + "] " + parts(all)
	}
	for _, some := range append([][]string{all}, fewer...) {
		if line := parts(some); len(line) <= width {
			return line
		}
	}
	return all[0][:max(0, min(len(all[0]), width))]
}

func parts(all []string) string { return strings.Join(all, "  ") }

const (
	// sizeColumns is the longest Size, 1023.9 MiB.
	sizeColumns = 10
	// leftColumns is a time of less than an hour; longer ones move the bar once.
	leftColumns = 6
	// A shorter bar shows nothing, a longer one no more.
	leastBar, mostBar = 10, 40
)

// minTook keeps a rate finite before the first tick.
const minTook = 0.001

// fileCost is the work for a file besides its content, in bytes: the amount that the
// link carries in the time of a small file. With it the remaining time is about right
// for many small files and for a large one.
const fileCost = 32 << 10

// share returns the part of the work that is done; files count as well as bytes.
func (m *Meter) share(files, bytes int64) float64 {
	all := float64(m.plan.Bytes) + fileCost*float64(m.plan.Files)
	if all == 0 {
		return 1
	}
	return max(0, min(1, (float64(bytes)+fileCost*float64(files))/all))
}

// rate returns the bytes per second.
func rate(bytes int64, took time.Duration) string {
	return fmt.Sprintf("%*s/s", sizeColumns, Size(int64(float64(bytes)/max(took.Seconds(), minTook))))
}

// left estimates the remaining time from the time so far.
func left(took time.Duration, share float64) string {
	const enough = 0.01 // Earlier estimates would jump.
	if share < enough {
		return fmt.Sprintf("%*s left", leftColumns, "--")
	}
	rest := time.Duration(math.Ceil(float64(took)*(1-share)/share/float64(time.Second))) * time.Second
	return fmt.Sprintf("%*s left", leftColumns, rest)
}

// Summary describes a finished copy.
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

// Size formats a number of bytes for people.
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
