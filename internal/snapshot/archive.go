package snapshot

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// An archive of a snapshot is a tar archive, compressed with zstd. manifest.json is first,
// then come the state and the data of the disks without holes: a file diskN@OFFSET for
// each piece, with its offset in hexadecimal digits.

// maxWindow bounds the memory that an archive can make its reader use; ours need 8 MiB.
const maxWindow = 64 << 20

// Export writes the snapshot in dir as an archive. It checks all files first.
func Export(ctx context.Context, dir string, w io.Writer) error {
	m, err := ReadMachine(dir)
	if err == nil && m.Kind != Snapshot {
		err = fmt.Errorf("%s: it is a paused machine, not a snapshot", dir)
	}
	if err != nil {
		return err
	}
	state, err := m.OpenFiles(dir)
	if err != nil {
		return err
	}
	defer func() { _ = state.Close() }() // Read only.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	x := exporting{tar.NewWriter(z)}
	err = x.manifest(ctx, dir)
	if err == nil {
		err = x.piece(ctx, stateName, state, 0, m.State.Size)
	}
	for _, d := range m.Disks {
		if err == nil {
			err = reading(filepath.Join(dir, d.File), func(f *os.File) error { return x.disk(ctx, d.File, f) })
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(x.out.Close(), z.Close())
}

type exporting struct{ out *tar.Writer }

func (x exporting) manifest(ctx context.Context, dir string) error {
	return reading(filepath.Join(dir, manifestName), func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return x.piece(ctx, manifestName, f, 0, info.Size())
	})
}

func (x exporting) disk(ctx context.Context, name string, f *os.File) error {
	return eachData(f, func(start, end int64) error {
		return x.piece(ctx, fmt.Sprintf("%s@%x", name, start), io.NewSectionReader(f, start, end-start), start, end)
	})
}

// piece writes one entry of the archive.
func (x exporting) piece(ctx context.Context, name string, r io.Reader, start, end int64) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	const private = 0o600
	if err := x.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: private, Size: end - start}); err != nil {
		return err
	}
	n, err := io.Copy(x.out, r)
	if err == nil && n != end-start {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Import makes a snapshot of an archive, in dir, which must not be there. All of it is
// checked against its manifest. After an error nothing is left.
func Import(ctx context.Context, dir string, r io.Reader) error {
	k, err := Begin(dir)
	if err != nil {
		return err
	}
	m, err := importing{k}.read(ctx, r)
	if err != nil {
		k.Abort()
		return fmt.Errorf("archive of a snapshot: %w", err)
	}
	return k.commit(m, true)
}

type importing struct{ to *Maker }

func (i importing) read(ctx context.Context, r io.Reader) (m Machine, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return m, err
	}
	defer z.Close()
	in := tar.NewReader(z)
	if m, err = i.manifest(in); err != nil {
		return m, err
	}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			// After the end of the tar archive nothing may be missing of the compressed one.
			_, err = io.Copy(io.Discard, z)
			return m, err
		}
		if err == nil {
			err = i.piece(ctx, m, h, in)
		}
		if err != nil {
			return m, err
		}
	}
}

// manifest reads the first entry, and makes the files.
func (i importing) manifest(in *tar.Reader) (m Machine, err error) {
	h, err := in.Next()
	if err != nil {
		return m, err
	}
	if h.Name != manifestName {
		return m, fmt.Errorf("its first file is %q: want %s", h.Name, manifestName)
	}
	if err := json.NewDecoder(io.LimitReader(in, maxMachine)).Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", manifestName, err)
	}
	if err := m.checkForm(); err != nil {
		return m, fmt.Errorf("%s: %w", manifestName, err)
	}
	if m.Kind != Snapshot {
		return m, fmt.Errorf("%s: kind %q: want %q", manifestName, m.Kind, Snapshot)
	}
	sizes := map[string]int64{stateName: m.State.Size}
	for _, d := range m.Disks {
		sizes[d.File] = d.Size
	}
	for name, size := range sizes {
		f, err := newFile(i.to.early, name)
		if err != nil {
			return m, err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return m, fmt.Errorf("%s: %w", name, err)
		}
	}
	return m, nil
}

// piece writes an entry to its place in its file.
func (i importing) piece(ctx context.Context, m Machine, h *tar.Header, in io.Reader) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	name, offset, _ := strings.Cut(h.Name, "@")
	at := int64(0)
	if offset != "" {
		const hexadecimal, bits = 16, 63
		n, err := strconv.ParseUint(offset, hexadecimal, bits)
		if err != nil {
			return fmt.Errorf("%q: want an offset after @", h.Name)
		}
		at = int64(n)
	}
	size, ok := m.sizeOf(name)
	if !ok || h.Typeflag != tar.TypeReg {
		return fmt.Errorf("%q: the manifest has no such file", h.Name)
	}
	if at > size || h.Size > size-at {
		return fmt.Errorf("%q: %d bytes: the file has %d", h.Name, h.Size, size)
	}
	f, err := os.OpenFile(i.to.Path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Seek(at, io.SeekStart)
	if err == nil {
		_, err = io.Copy(f, in)
	}
	return errors.Join(err, f.Close())
}

// sizeOf is the size of a file of the directory.
func (m Machine) sizeOf(name string) (size int64, ok bool) {
	if name == stateName {
		return m.State.Size, true
	}
	for _, d := range m.Disks {
		if d.File == name && name != "" {
			return d.Size, true
		}
	}
	return 0, false
}
