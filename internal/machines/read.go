package machines

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"
)

// A LogQuery selects a part of a command's output.
type LogQuery struct {
	Follow bool      // Go on until the machine's life ends.
	Tail   int       // Start with the last so many lines; less than 0 means all.
	Since  time.Time // Skip older output; zero means all.
	Until  time.Time // Skip newer output; zero means all.

	// Lines asks for whole lines: each comes when it has ended, or is longer than 64
	// KiB. Without it, and without a Tail, pieces come as the command has written them.
	Lines bool
}

// ReadOutput calls each with the output of the machine's command, in order; each must
// not keep the text. A machine without output yet gives none.
func (m *Machine) ReadOutput(ctx context.Context, q LogQuery, each func(Entry) error) error {
	r := &outputReader{path: m.Output()}
	if err := r.open(); err != nil {
		return err
	}
	defer r.close()
	if !q.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.Until)
		defer cancel()
	}
	sink := q.filter(each)
	if q.Tail < 0 && !q.Lines {
		r.lines.Each = func(line []byte) error { return sink(parseEntry(line)) }
		return m.readOn(ctx, r, q.Follow)
	}
	a := &assembler{each: sink}
	if q.Tail >= 0 {
		if err := a.tail(r, q.Tail, q.Follow); err != nil {
			return err
		}
	}
	r.lines.Each = a.line
	return errors.Join(m.readOn(ctx, r, q.Follow), a.flush())
}

// filter drops entries outside Since and Until.
func (q LogQuery) filter(each func(Entry) error) func(Entry) error {
	return func(e Entry) error {
		if e.Time.Before(q.Since) || !q.Until.IsZero() && e.Time.After(q.Until) {
			return nil
		}
		return each(e)
	}
}

// readOn reads the available output and, with follow, the later output.
func (m *Machine) readOn(ctx context.Context, r *outputReader, follow bool) error {
	if !follow {
		return errors.Join(r.read(), r.lines.Flush())
	}
	return errors.Join(m.follow(ctx, r.read), r.lines.Flush())
}

// An outputReader reads the files of an outputLog, the older one first. Meanwhile the
// log may grow and rotate.
type outputReader struct {
	path  string
	lines Lines
	files []*os.File // The last one is the current file, or was when it was opened.
}

// open opens the files that exist.
func (r *outputReader) open() error {
	// The current file first: if the log rotates between the two opens, both are the
	// same file.
	for _, path := range []string{r.path, r.path + olderSuffix} {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if len(r.files) > 0 && sameFile(f, r.files[len(r.files)-1]) {
			_ = f.Close() // It is only read.
			continue
		}
		r.files = append(r.files, f)
	}
	slices.Reverse(r.files)
	return nil
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, failed := b.Stat()
	return err == nil && failed == nil && os.SameFile(x, y)
}

func (r *outputReader) close() {
	for _, f := range r.files {
		_ = f.Close() // It is only read.
	}
}

// read passes on the output since the last call.
func (r *outputReader) read() error {
	for {
		more, err := r.successors()
		if err != nil {
			return err
		}
		for _, f := range r.files {
			if _, err := io.Copy(&r.lines, f); err != nil {
				return err
			}
		}
		if len(more) == 0 {
			return nil
		}
		r.close()
		r.files = more
	}
}

// successors returns the files that were begun after ours; none while ours is the
// current file. The caller calls it before it reads ours, so ours is complete if there
// are any.
func (r *outputReader) successors() ([]*os.File, error) {
	next := &outputReader{path: r.path}
	if err := next.open(); err != nil {
		return nil, err
	}
	last := len(next.files) - 1
	if last < 0 {
		return nil, nil
	}
	if len(r.files) == 0 {
		return next.files, nil
	}
	ours := r.files[len(r.files)-1]
	if sameFile(ours, next.files[last]) {
		next.close()
		return nil, nil
	}
	if sameFile(ours, next.files[0]) {
		_ = next.files[0].Close() // It is only read.
		return next.files[1:], nil
	}
	return next.files, nil
}

// An assembler joins pieces to lines, separately for each stream.
type assembler struct {
	each func(Entry) error
	open []*Entry // Incomplete lines, the oldest first.
}

func (a *assembler) line(line []byte) error { return a.take(parseEntry(line)) }

func (a *assembler) take(e Entry) error {
	i := slices.IndexFunc(a.open, func(o *Entry) bool { return o.Stream == e.Stream })
	if i < 0 && !e.Partial {
		return a.each(e)
	}
	if i < 0 {
		e.Text = bytes.Clone(e.Text)
		a.open = append(a.open, &e)
		return nil
	}
	whole := a.open[i]
	whole.Text, whole.Partial = append(whole.Text, e.Text...), e.Partial
	if e.Partial && len(whole.Text) < lineBytes {
		return nil
	}
	a.open = slices.Delete(a.open, i, i+1)
	return a.each(*whole)
}

// flush passes on incomplete lines.
func (a *assembler) flush() (err error) {
	for _, e := range a.open {
		err = errors.Join(err, a.each(*e))
	}
	a.open = nil
	return err
}

// tail reads the available output and passes on its last n lines.
func (a *assembler) tail(r *outputReader, n int, follow bool) error {
	each, last, next := a.each, []Entry{}, 0
	a.each = func(e Entry) error {
		e.Text = bytes.Clone(e.Text)
		if len(last) < n {
			last = append(last, e)
		} else if n > 0 {
			last[next] = e
			next = (next + 1) % n
		}
		return nil
	}
	r.lines.Each = a.line
	err := r.read()
	if !follow {
		err = errors.Join(err, r.lines.Flush(), a.flush())
	}
	a.each = each
	for i := range last {
		if err == nil {
			err = each(last[(next+i)%len(last)])
		}
	}
	return err
}
