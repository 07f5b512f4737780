package machines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agentd-go/agentd/client"
)

const (
	// outputFile bounds one file of a command's output on disk, including the head of
	// each line. There are two files: the current one and the previous one.
	outputFile = 32 << 20
	// outputPiece is the longest text of one entry, as with container tools.
	outputPiece = 16 << 10
	// outputHead is more than the head of a line takes.
	outputHead = 128
	// olderSuffix is the suffix of the previous file.
	olderSuffix = ".1"
	// entryTime is RFC 3339 with nine digits, so that texts sort in the order of time.
	entryTime = "2006-01-02T15:04:05.000000000Z"
)

// The streams of a command.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// An Entry is a piece of a command's output. The file has one entry a line, in the log
// format of Kubernetes (CRI): the time, the stream, F or P, and the text.
type Entry struct {
	Time    time.Time // When it reached this host; zero for entries of older versions.
	Stream  string    // Stdout or Stderr.
	Partial bool      // The line goes on in the stream's next entry.
	Text    []byte    // Without the end of the line.

	// ends, of a machine with Record.Survive, is how many bytes of each stream the log has
	// with this entry. It is a tag after F or P, "F:12,0".
	ends *[2]uint64
}

// append adds the entry's line.
func (e Entry) append(b []byte) []byte {
	kind := " F"
	if e.Partial {
		kind = " P"
	}
	b = e.Time.UTC().AppendFormat(b, entryTime)
	b = append(append(append(b, ' '), e.Stream...), kind...)
	if e.ends != nil {
		b = fmt.Appendf(b, ":%d,%d", e.ends[0], e.ends[1])
	}
	return append(append(append(b, ' '), e.Text...), '\n')
}

// parseKind reads F or P and the tag of an entry that has one.
func parseKind(s string) (partial bool, ends *[2]uint64, ok bool) {
	kind, tag, tagged := strings.Cut(s, ":")
	if kind != "F" && kind != "P" {
		return false, nil, false
	}
	if !tagged {
		return kind == "P", nil, true
	}
	first, second, _ := strings.Cut(tag, ",")
	stdout, err := strconv.ParseUint(first, 10, 64)
	stderr, failed := strconv.ParseUint(second, 10, 64)
	exact := fmt.Sprintf("%s:%d,%d", kind, stdout, stderr) == s // ParseUint accepts other forms too.
	return kind == "P", &[2]uint64{stdout, stderr}, exact && err == nil && failed == nil
}

// parseEntry reads a line of the file. A line of another form is text of stdout, which
// an older agentctl has written.
func parseEntry(line []byte) Entry {
	line = bytes.TrimSuffix(line, []byte("\n"))
	fields := bytes.SplitN(line, []byte(" "), 4) //nolint:mnd // As many as an entry has.
	if len(fields) == 4 {
		at, err := time.Parse(entryTime, string(fields[0]))
		stream := string(fields[1])
		partial, ends, ok := parseKind(string(fields[2]))
		exact := err == nil && at.UTC().Format(entryTime) == string(fields[0]) // time.Parse accepts other forms too.
		if exact && (stream == Stdout || stream == Stderr) && ok {
			return Entry{at, stream, partial, fields[3], ends}
		}
	}
	return Entry{Stream: Stdout, Text: line}
}

// entries splits the bytes of one write into entries.
func entries(at time.Time, stream string, p []byte) (all []Entry) {
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		if len(line) > outputPiece {
			line, rest, whole = p[:outputPiece], p[outputPiece:], false
		}
		all = append(all, Entry{at, stream, !whole, line, nil})
		p = rest
	}
	return all
}

// An outputLog keeps the end of a command's output in at most two files. A full disk
// never stops the command: the output that does not fit is lost, and an entry says so
// as soon as there is room.
type outputLog struct {
	path string
	most int64 // Of one file.
	now  func() time.Time

	mu   sync.Mutex
	f    *os.File
	size int64
	lost int64 // Bytes lost since the last kept entry.
	why  error // Why they were lost.

	stamped bool      // Entries have Entry.ends.
	offsets [2]uint64 // Bytes of each stream that were taken, lost ones too.
}

// count makes the log go on with the offsets of its last entry, in this file or in the one
// before it. A log without such entries is at the beginning of both streams.
func (o *outputLog) count() error {
	o.stamped = true
	for _, path := range []string{o.path, o.path + olderSuffix} {
		line, err := lastLine(path)
		if err != nil {
			return err
		}
		if e := parseEntry(line); e.ends != nil {
			o.offsets = *e.ends
			return nil
		}
	}
	return nil
}

// lastLine reads the last line of a log of whole lines; a file that is missing has none.
func lastLine(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // Read only.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	end := make([]byte, min(size, outputPiece+outputHead))
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	end = bytes.TrimSuffix(end, []byte("\n"))
	return end[bytes.LastIndexByte(end, '\n')+1:], nil
}

// openOutput opens the file at path for appending.
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

// wholeLines cuts off an incomplete last line, which a killed supervisor leaves, and
// returns the file's size.
func wholeLines(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return 0, err
	}
	end := make([]byte, min(size, outputPiece+outputHead))
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
		o.passLocked(stderr, uint64(len(e.Text)))
		if !e.Partial {
			o.passLocked(stderr, 1)
		}
		o.keepLocked(e)
	}
	return nil
}

// passLocked counts bytes of a stream.
func (o *outputLog) passLocked(stderr bool, n uint64) {
	if stderr {
		o.offsets[1] += n
	} else {
		o.offsets[0] += n
	}
}

// gap notes that a kept command has printed faster than the log was written.
func (o *outputLog) gap(stderr bool, offset uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gapLocked(stderr, offset)
}

func (o *outputLog) gapLocked(stderr bool, offset uint64) {
	stream := Stdout
	if stderr {
		stream, o.offsets[1] = Stderr, offset
	} else {
		o.offsets[0] = offset
	}
	text := fmt.Appendf(nil, "agentctl: bytes of %s before byte %d are lost here: they came faster than they were written", stream, offset)
	o.keepLocked(Entry{o.now(), Stderr, false, text, nil})
}

// join starts a command that attaches at the log's offsets. Where the output begins later,
// the log says so before it takes any.
func (o *outputLog) join(cmd *client.Cmd) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	stdout, stderr := cmd.Begun()
	if stdout > o.offsets[0] {
		o.gapLocked(false, stdout)
	}
	if stderr > o.offsets[1] {
		o.gapLocked(true, stderr)
	}
	return nil
}

func (o *outputLog) keepLocked(e Entry) {
	var b []byte
	if o.stamped {
		now := o.offsets
		e.ends = &now
	}
	if o.lost > 0 {
		text := fmt.Appendf(nil, "agentctl: %d bytes of output are lost here: %v", o.lost, o.why)
		b = Entry{e.Time, Stderr, false, text, e.ends}.append(b)
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

// writeLocked writes b, which holds whole lines, completely or not at all.
func (o *outputLog) writeLocked(b []byte) error {
	if _, err := o.f.Write(b); err != nil {
		// A partial line would garble the next one.
		_, _ = o.f.Seek(o.size, io.SeekStart)
		_ = o.f.Truncate(o.size)
		return cause(err)
	}
	o.size += int64(len(b))
	return nil
}

// rotateLocked begins a new file if more bytes do not fit.
func (o *outputLog) rotateLocked(more int64) error {
	if o.size == 0 || o.size+more <= o.most {
		return nil
	}
	if err := os.Rename(o.path, o.path+olderSuffix); err != nil {
		return cause(err)
	}
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		// The next write tries again.
		_ = os.Rename(o.path+olderSuffix, o.path)
		return cause(err)
	}
	err = o.f.Close()
	o.f, o.size = f, 0
	return err
}

// cause returns an error without its path, which means nothing to a reader of the
// output.
func cause(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

func (o *outputLog) close() error { return o.f.Close() }
