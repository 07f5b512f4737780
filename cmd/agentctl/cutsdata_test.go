package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/archive"
)

const (
	cutBig   = 8 << 20 // A quarter of a second.
	cutFiles = 50
	cutSmall = 64 << 10 // The largest file of the tree.
)

// A cutData is what is copied.
type cutData struct {
	big  []byte
	tree map[string][]byte
}

func newCutData(r *rand.Rand) *cutData {
	d := &cutData{big: randomBytes(r, cutBig), tree: map[string][]byte{}}
	for i := range cutFiles {
		d.tree[fmt.Sprintf("d%d/f%d", i%7, i)] = randomBytes(r, 1+r.IntN(cutSmall))
	}
	d.tree["d0/second"] = d.tree["d0/f0"] // A hard link.
	return d
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// size is the bytes that a copy moves.
func (d *cutData) size(tree bool) int64 {
	if !tree {
		return cutBig
	}
	n := 0
	for _, b := range d.tree {
		n += len(b)
	}
	return int64(n)
}

// write makes big, tree and tree.tar.
func (d *cutData) write(dir string) error {
	var packed bytes.Buffer
	pack := tar.NewWriter(&packed)
	err := os.WriteFile(filepath.Join(dir, "big"), d.big, 0o600)
	for _, name := range slices.Sorted(maps.Keys(d.tree)) {
		err = errors.Join(err, d.writeOne(filepath.Join(dir, "tree"), name, pack))
	}
	return errors.Join(err, pack.Close(), os.WriteFile(filepath.Join(dir, "tree.tar"), packed.Bytes(), 0o600))
}

func (d *cutData) writeOne(dir, name string, pack *tar.Writer) error {
	file := filepath.Join(dir, name)
	if path.Base(name) == "second" {
		first := path.Join(path.Dir(name), "f0")
		return errors.Join(os.Link(filepath.Join(dir, first), file),
			pack.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: first, Mode: 0o600}))
	}
	err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, d.tree[name], 0o600),
		pack.WriteHeader(&tar.Header{Name: name, Size: int64(len(d.tree[name])), Mode: 0o600}))
	_, failed := pack.Write(d.tree[name])
	return errors.Join(err, failed)
}

// readArchive is an archive's files.
func readArchive(from io.Reader) (map[string][]byte, error) {
	all := map[string][]byte{}
	for r := archive.NewReader(from); ; {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // A wrapped one is no end.
			return all, r.Drain()
		}
		if err != nil {
			return all, err
		}
		switch h.Typeflag {
		case tar.TypeReg:
			if all[path.Clean(h.Name)], err = io.ReadAll(r); err != nil {
				return all, err
			}
		case tar.TypeLink:
			first, there := all[path.Clean(h.Linkname)]
			if !there {
				return all, fmt.Errorf("%s is a link to %s, which the archive has not", h.Name, h.Linkname)
			}
			all[path.Clean(h.Name)] = first
		}
	}
}

// readDir is a directory's files.
func readDir(dir string) (map[string][]byte, error) {
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err == nil {
			all[name], err = os.ReadFile(file)
		}
		return err
	})
	return all, err
}

// isPart says that a name is one of what is not whole.
func isPart(name string) bool { return strings.HasPrefix(path.Base(name), ".agentctl-") }

// noParts holds that nothing of that kind is left by a copy that has succeeded.
func noParts(there map[string][]byte, end cutEnd) error {
	for name := range there {
		if isPart(name) && end.status == 0 {
			return fmt.Errorf("%s is left", name)
		}
	}
	return nil
}

func (d *cutData) judgeFile(there map[string][]byte, end cutEnd, old bool) error {
	b, exists := there["in"]
	switch {
	case bytes.Equal(b, d.big):
		return noParts(there, end)
	case end.status != 0 && (old && string(b) == "old\n" || !old && !exists):
		return nil
	}
	return fmt.Errorf("%d of %d bytes under the name; it is there: %t, was before: %t", len(b), len(d.big), exists, old)
}

func (d *cutData) judgeTree(there map[string][]byte, end cutEnd) error {
	whole := 0
	for name, b := range there {
		if isPart(name) {
			continue
		}
		want, known := d.tree[strings.TrimPrefix(name, "in/")]
		if !known || !bytes.Equal(b, want) {
			return fmt.Errorf("%s: %d of %d bytes under the name; known: %t", name, len(b), len(want), known)
		}
		whole++
	}
	if end.status == 0 && whole != len(d.tree) {
		return fmt.Errorf("%d of %d files", whole, len(d.tree))
	}
	return noParts(there, end)
}

// judgeOutput checks that the output is whole, or a beginning that is reported as cut.
func (c *cutPair) judgeOutput(op cutCopy, end cutEnd) error {
	b, err := os.ReadFile(c.in("stdout"))
	if err != nil {
		return err
	}
	if !op.tree {
		if end.status == 0 && len(b) < len(c.big) || !bytes.HasPrefix(c.big, b) {
			return fmt.Errorf("%d of %d bytes", len(b), len(c.big))
		}
		return nil
	}
	all, err := readArchive(bytes.NewReader(b))
	if err == nil || end.status == 0 {
		return errors.Join(err, c.wholeArchive(all))
	}
	return nil
}

func (d *cutData) wholeArchive(all map[string][]byte) error {
	whole := 0
	for name, b := range all {
		if bytes.Equal(b, d.tree[strings.TrimPrefix(name, "tree/")]) {
			whole++
		}
	}
	if whole != len(d.tree) || len(all) != whole {
		return fmt.Errorf("an archive with %d of %d files", whole, len(d.tree))
	}
	return nil
}

// A cutLink stands before a machine's socket and carries so many bytes.
type cutLink struct {
	net.Listener
	socket, behind string
	left           atomic.Int64
	all            sync.WaitGroup
	mu             sync.Mutex
	open           []net.Conn
}

func newCutLink(socket string, bytes int64) (*cutLink, error) {
	l := &cutLink{socket: socket, behind: socket + "2"}
	l.left.Store(bytes)
	err := os.Rename(socket, l.behind)
	if err == nil {
		l.Listener, err = net.Listen("unix", socket)
	}
	if err != nil {
		return nil, err
	}
	l.all.Go(l.serve)
	return l, nil
}

func (l *cutLink) serve() {
	for {
		tool, err := l.Accept()
		if err != nil {
			return
		}
		machine, err := net.Dial("unix", l.behind)
		if err != nil {
			_ = tool.Close()
			continue
		}
		l.mu.Lock()
		l.open = append(l.open, tool, machine)
		l.mu.Unlock()
		l.all.Go(func() { l.carry(tool, machine) })
		l.all.Go(func() { l.carry(machine, tool) })
	}
}

// carry is one way, and ends both.
func (l *cutLink) carry(to, from net.Conn) {
	_, _ = io.Copy(metered{to, &l.left}, from) // The end is what is wanted.
	_, _ = to.Close(), from.Close()
}

// close gives the socket back, after the last byte.
func (l *cutLink) close() error {
	err := l.Close()
	l.mu.Lock()
	for _, c := range l.open {
		_ = c.Close() // It may be.
	}
	l.mu.Unlock()
	l.all.Wait()
	return errors.Join(err, os.Rename(l.behind, l.socket))
}

// metered writes what is left to write: of the last piece a part.
type metered struct {
	to   io.Writer
	left *atomic.Int64
}

func (m metered) Write(p []byte) (int, error) {
	left := m.left.Add(-int64(len(p)))
	if left >= 0 {
		return m.to.Write(p)
	}
	n, _ := m.to.Write(p[:max(0, int64(len(p))+left)]) // It ends here anyway.
	return n, io.ErrShortWrite
}

// A cutTable counts the outcomes of the cuts, by kind and command.
type cutTable struct {
	mu     sync.Mutex
	rows   map[string]*cutRow
	took   map[string]time.Duration // By the command: of the last whole copy.
	faults []error
}

type cutRow struct{ inside, late, zero, insideZero, faults int }

func (t *cutTable) takes(op cutCopy, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took[op.command] = d
}

func (t *cutTable) time(op cutCopy) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.took[op.command]
}

func (t *cutTable) fault(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, err)
}

func (t *cutTable) add(kind string, op cutCopy, end cutEnd, problem error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range []string{fmt.Sprintf("%-10s %s", kind, op.command), "all"} {
		if t.rows[key] == nil {
			t.rows[key] = &cutRow{}
		}
		t.rows[key].count(end, problem)
	}
	if problem != nil {
		t.faults = append(t.faults, fmt.Errorf("%s, cut by %s (late: %t), status %d: %w: %s", op.command, kind, end.late, end.status, problem, end.says))
	}
}

func (r *cutRow) count(end cutEnd, problem error) {
	if end.late {
		r.late++
	} else {
		r.inside++
	}
	if end.status == 0 {
		r.zero++
		if !end.late {
			r.insideZero++
		}
	}
	if problem != nil {
		r.faults++
	}
}

func (t *cutTable) String() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%-45s %6s %6s %6s %12s %6s\n", "kind and command", "inside", "late", "zero", "inside, zero", "faults")
	keys := slices.Sorted(maps.Keys(t.rows))
	for _, key := range keys {
		r := t.rows[key]
		_, _ = fmt.Fprintf(&b, "%-45s %6d %6d %6d %12d %6d\n", key, r.inside, r.late, r.zero, r.insideZero, r.faults)
	}
	return b.String()
}
