package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	arMagic  = "!<arch>\n"
	arHeader = 60 // ar(5): name 16, mtime 12, uid 6, gid 6, mode 8, size 10, end mark 2.
	// A package has three members; a signed one has one or two more.
	arMembers = 16
	// The largest kernel package (linux-modules-extra, decompressed) stays
	// below 1 GiB and 10,000 files.
	debBytes = 4 << 30
	debFiles = 100_000
)

var errNoData = errors.New("no data.tar member: not a Debian package")

// walkDeb calls visit with each regular file of the Debian package r: its path, clean
// and relative, and its content, which is valid only during the call. A name that leads
// out of the package's root fails the whole package.
func walkDeb(r io.Reader, visit func(name string, r io.Reader) error) error {
	data, err := debData(r)
	if err != nil {
		return err
	}
	d, err := decompress(data)
	if err != nil {
		return fmt.Errorf("data.tar: %w", err)
	}
	defer func() { _ = d.Close() }()
	bounded := &io.LimitedReader{R: d, N: debBytes}
	err = walkTar(tar.NewReader(bounded), visit)
	if err != nil && bounded.N == 0 {
		return fmt.Errorf("data.tar: %w (%d bytes)", ErrTooLarge, int64(debBytes))
	}
	if err == nil { // The compressed stream's trailer follows the archive's end.
		if _, err = io.Copy(io.Discard, bounded); err != nil {
			err = fmt.Errorf("data.tar: %w", err)
		}
	}
	return err
}

// An exactReader reads exactly left bytes of r; an earlier end is an error.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(b[:min(int64(len(b)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 { // A reader's end is not wrapped.
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func walkTar(t *tar.Reader, visit func(name string, r io.Reader) error) error {
	for range debFiles {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("data.tar: %w", err)
		}
		name := filepath.Clean(strings.TrimPrefix(h.Name, "./"))
		if !filepath.IsLocal(name) {
			return fmt.Errorf("data.tar: entry %q leaves the package", h.Name)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := visit(name, t); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return fmt.Errorf("data.tar: %w (%d files)", ErrTooLarge, debFiles)
}

// debData finds the member data.tar, data.tar.xz and so on.
func debData(r io.Reader) (io.Reader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return nil, errNoData
	}
	for range arMembers {
		name, size, err := arMember(r)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(name, "data.tar") {
			return &exactReader{r, size}, nil
		}
		// Members start at even offsets.
		if n, err := io.CopyN(io.Discard, r, size+size&1); err != nil {
			return nil, fmt.Errorf("ar member %q ends after %d of %d bytes: %w", name, n, size, err)
		}
	}
	return nil, errNoData
}

func arMember(r io.Reader) (name string, size int64, err error) {
	h := make([]byte, arHeader)
	if _, err := io.ReadFull(r, h); errors.Is(err, io.EOF) {
		return "", 0, errNoData
	} else if err != nil {
		return "", 0, fmt.Errorf("ar header: %w", err)
	}
	if !bytes.HasSuffix(h, []byte("`\n")) {
		return "", 0, errors.New("ar header: no end mark")
	}
	// Ten decimal digits fit an int64.
	size, err = strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
	if err != nil || size < 0 {
		return "", 0, fmt.Errorf("ar header: size %q", h[48:58])
	}
	return strings.TrimRight(string(h[:16]), " /"), size, nil
}
