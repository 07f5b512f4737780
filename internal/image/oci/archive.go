package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

const (
	dockerManifest = "manifest.json" // What docker save writes.
	layoutIndex    = "index.json"    // OCI image layout.

	// maxMembers is far more than an archive of images has: two or three for each
	// layer. An archive with more members holds plain files.
	maxMembers = 16 << 10
	// maxNames bounds the bytes of their names and links.
	maxNames = 4 << 20
	// maxLinks is how often a member may lead to another: old docker save links
	// equal layers, once.
	maxLinks = 8
)

// OpenArchive reads an archive of docker save or of an OCI layout. It must not be
// compressed, and must stay open while its images are used. For any other archive the
// error satisfies [NotImage].
func OpenArchive(f io.ReadSeeker, at io.ReaderAt) (*Collection, error) {
	a, err := index(f, at)
	if err != nil {
		return nil, err
	}
	return open(a)
}

// OpenLayout reads the OCI layout in the directory dir, or an unpacked docker save
// archive. For any other directory the error satisfies [NotImage].
func OpenLayout(dir *os.Root) (*Collection, error) {
	return open(layout{dir})
}

// members are the files of an archive or a directory.
type members interface {
	member(name string) (r io.ReadCloser, size int64, err error)
}

func open(m members) (*Collection, error) {
	b, err := readMember(m, dockerManifest)
	if err == nil && listsImages(b) {
		return docker(m, b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dockerManifest, err)
	}
	b, err = readMember(m, layoutIndex)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !isIndex(m, b) {
		return nil, errNoImage
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", layoutIndex, err)
	}
	top, err := decode[manifest](b, layoutIndex)
	if err != nil {
		return nil, err
	}
	if len(top.Manifests) == 0 {
		return nil, fmt.Errorf("%s: it names no image", layoutIndex)
	}
	c := byIndex(blobs{m}, top)
	return &c, nil
}

// listsImages reports whether b is a manifest of docker save. A root can have another
// file of that name: browser extensions do.
func listsImages(b []byte) bool {
	list, err := decode[[]saved](b, dockerManifest)
	return err == nil && slices.ContainsFunc(list, func(s saved) bool { return s.Config != "" })
}

// isIndex reports whether b is the index of a layout. The file oci-layout should be
// next to it, but some tools forget it.
func isIndex(m members, b []byte) bool {
	if r, _, err := m.member("oci-layout"); err == nil {
		_ = r.Close()
		return true
	}
	index, err := decode[manifest](b, layoutIndex)
	return err == nil && slices.ContainsFunc(index.Manifests, func(d descriptor) bool { return d.Digest != "" })
}

func readMember(m members, name string) ([]byte, error) {
	r, _, err := m.member(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return readDocument(r)
}

// saved is an entry of the manifest of docker save.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// docker makes the images of a manifest of docker save.
func docker(m members, b []byte) (*Collection, error) {
	all, err := decode[[]saved](b, dockerManifest)
	if err != nil {
		return nil, err
	}
	var c Collection
	for _, one := range all {
		c.candidates = append(c.candidates, candidate{one.RepoTags, func(_ context.Context, w Want) (*Image, error) { return one.image(m, w) }})
	}
	return &c, nil
}

// image makes one image. Its layers have only the digests of their content, from the
// configuration.
func (s saved) image(m members, w Want) (*Image, error) {
	config, err := readMember(m, s.Config)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", s.Config, err)
	}
	var layers []Layer
	for _, name := range s.Layers {
		r, size, err := m.member(name)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
		_ = r.Close() // Opened only for its size.
		layers = append(layers, Layer{Size: size, Open: func(context.Context) (io.ReadCloser, error) {
			r, _, err := m.member(name)
			return r, err
		}})
	}
	return w.assemble(config, layers)
}

// blobs are the documents and layers of a layout.
type blobs struct{ members }

func (s blobs) open(_ context.Context, d descriptor) (io.ReadCloser, error) {
	r, _, err := s.member("blobs/sha256/" + d.Digest.Hex())
	return r, err
}

func (s blobs) manifest(ctx context.Context, d descriptor) (io.ReadCloser, error) {
	return s.open(ctx, d)
}

// A layout is a directory. os.Root keeps links in it from leading out.
type layout struct{ root *os.Root }

func (l layout) member(name string) (io.ReadCloser, int64, error) {
	info, err := l.root.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() { // Checked before the open, because opening a fifo blocks.
		return nil, 0, fmt.Errorf("%s: not a regular file", name)
	}
	f, err := l.root.Open(name)
	return f, info.Size(), err
}

// An archive holds the offsets of the members in its file.
type archive struct {
	at    io.ReaderAt
	parts map[string]part
}

type part struct {
	offset, size int64
	link         string // Another member, by its clean name.
}

// index reads the headers of an archive.
func index(f io.ReadSeeker, at io.ReaderAt) (*archive, error) {
	a, kept := &archive{at: at, parts: map[string]part{}}, 0
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the archive: %w", err)
		}
		kept += len(h.Name) + len(h.Linkname)
		if len(a.parts) == maxMembers || kept > maxNames {
			return nil, errNoImage
		}
		p := part{size: h.Size}
		switch h.Typeflag {
		case tar.TypeReg:
			if p.offset, err = f.Seek(0, io.SeekCurrent); err != nil {
				return nil, err
			}
		case tar.TypeLink:
			p.link = path.Clean(h.Linkname)
		case tar.TypeSymlink:
			p.link = path.Join(path.Dir(path.Clean(h.Name)), h.Linkname) //nolint:gosec // G305: a name to look up in this archive, nothing is extracted.
		default:
			continue
		}
		a.parts[path.Clean(h.Name)] = p
	}
}

func (a *archive) member(name string) (io.ReadCloser, int64, error) {
	name = path.Clean(name)
	for range maxLinks {
		p, ok := a.parts[strings.TrimPrefix(name, "/")]
		if !ok {
			return nil, 0, fmt.Errorf("%s: %w in the archive", name, fs.ErrNotExist)
		}
		if p.link == "" {
			return io.NopCloser(io.NewSectionReader(a.at, p.offset, p.size)), p.size, nil
		}
		name = p.link
	}
	return nil, 0, fmt.Errorf("%s: more than %d links", name, maxLinks)
}
