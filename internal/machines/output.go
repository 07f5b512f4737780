package machines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// outputFile is how much one file of a command's output takes on disk, with the
	// words that stand before each line. There are two: the one that is written and the
	// one before it.
	outputFile = 32 << 20
	// outputPiece is the longest text of one entry, as containers' tools have it.
	outputPiece = 16 << 10
	// olderSuffix is after the name of the file before the one that is written.
	olderSuffix = ".1"
	// entryTime is RFC 3339 with all nine digits, so that texts sort as times do.
	entryTime = "2006-01-02T15:04:05.000000000Z"
)

// The streams of a command.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// An Entry is a piece of a command's output. The file has each on a line of its own,
// in the form that Kubernetes keeps logs in (CRI): the time, the stream, F or P, and
// the text.
type Entry struct {
	Time    time.Time // When it reached this host; zero in files of older versions.
	Stream  string    // Stdout or Stderr.
	Partial bool      // The line goes on in the stream's next entry.
	Text    []byte    // Without the end of the line.
}

// append adds the entry's line.
func (e Entry) append(b []byte) []byte {
	kind := " F "
	if e.Partial {
		kind = " P "
	}
	b = e.Time.UTC().AppendFormat(b, entryTime)
	b = append(append(append(b, ' '), e.Stream...), kind...)
	return append(append(b, e.Text...), '\n')
}

// parseEntry reads a line of the file. A line of another form is one of stdout, as an
// older agentctl has written it.
func parseEntry(line []byte) Entry {
	line = bytes.TrimSuffix(line, []byte("\n"))
	fields := bytes.SplitN(line, []byte(" "), 4) //nolint:mnd // As many as an entry has.
	if len(fields) == 4 {
		at, err := time.Parse(entryTime, string(fields[0]))
		stream, kind := string(fields[1]), string(fields[2])
		exact := err == nil && at.UTC().Format(entryTime) == string(fields[0]) // Parse takes other forms too.
		if exact && (stream == Stdout || stream == Stderr) && (kind == "F" || kind == "P") {
			return Entry{at, stream, kind == "P", fields[3]}
		}
	}
	return Entry{Stream: Stdout, Text: line}
}

// entries cuts what was written at once into pieces.
func entries(at time.Time, stream string, p []byte) (all []Entry) {
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		if len(line) > outputPiece {
			line, rest, whole = p[:outputPiece], p[outputPiece:], false
		}
		all = append(all, Entry{at, stream, !whole, line})
		p = rest
	}
	return all
}

// An outputLog keeps the last of what a command prints: at most two files. A disk that
// is full costs the output that it has no room for, never the command: what is lost is
// said in its place as soon as there is room.
type outputLog struct {
	path string
	most int64 // Of one file.
	now  func() time.Time

	mu   sync.Mutex
	f    *os.File
	size int64
	lost int64 // Bytes since the last entry that was kept.
	why  error // Why they were lost.
}

// openOutput opens the file at path, to go on after what is there.
func openOutput(path string) (*outputLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	o := &outputLog{path: path, most: outputFile, now: time.Now, f: f}
	if o.size, err = wholeLines(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return o, nil
}

// wholeLines cuts off a last line that a killed supervisor has not written to its end,
// and returns how much there is.
func wholeLines(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return 0, err
	}
	const longest = outputPiece + 64 // And what stands before the text.
	end := make([]byte, min(size, longest))
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil {
		return 0, err
	}
	size -= int64(len(end) - 1 - bytes.LastIndexByte(end, '\n'))
	_, err = f.Seek(size, io.SeekStart)
	return size, errors.Join(err, f.Truncate(size))
}

// take is a client.Sink. It never fails.
func (o *outputLog) take(stderr bool, p []byte) error {
	stream := Stdout
	if stderr {
		stream = Stderr
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.now()
	for _, e := range entries(at, stream, p) {
		o.keepLocked(e)
	}
	return nil
}

func (o *outputLog) keepLocked(e Entry) {
	var b []byte
	if o.lost > 0 {
		text := fmt.Appendf(nil, "agentctl: %d bytes of output are lost here: %v", o.lost, o.why)
		b = Entry{e.Time, Stderr, false, text}.append(b)
	}
	b = e.append(b)
	err := o.rotateLocked(int64(len(b)))
	if err == nil {
		err = o.writeLocked(b)
	}
	if err != nil {
		o.lost, o.why = o.lost+int64(len(e.Text)+1), err
		return
	}
	o.lost = 0
}

// writeLocked writes whole lines or nothing.
func (o *outputLog) writeLocked(b []byte) error {
	if _, err := o.f.Write(b); err != nil {
		// What there is of a line would hide the next one.
		_, _ = o.f.Seek(o.size, io.SeekStart)
		_ = o.f.Truncate(o.size)
		return cause(err)
	}
	o.size += int64(len(b))
	return nil
}

// rotateLocked begins another file where more does not fit.
func (o *outputLog) rotateLocked(more int64) error {
	if o.size == 0 || o.size+more <= o.most {
		return nil
	}
	if err := os.Rename(o.path, o.path+olderSuffix); err != nil {
		return cause(err)
	}
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		// The next piece tries again with what is there.
		_ = os.Rename(o.path+olderSuffix, o.path)
		return cause(err)
	}
	err = o.f.Close()
	o.f, o.size = f, 0
	return err
}

// cause is an error without the path, which says nothing to a reader of the output.
func cause(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

func (o *outputLog) close() error { return o.f.Close() }
