package oci

import (
	"archive/tar"
	"context"
	"encoding/json"
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

	// maxMembers is far more than an archive of an image has: two or three for
	// each layer. One with more is of files.
	maxMembers = 16 << 10
	// maxNames bounds the bytes of their names and links.
	maxNames = 4 << 20
	// maxLinks is how often a member may lead to another: old docker save links
	// equal layers, once.
	maxLinks = 8
)

// annotations name an image in the index of a layout.
var annotations = []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"}

// OpenArchive reads the archive in f: of docker save, or of an OCI layout. It
// must not be compressed, and stay open as long as the image is used. An archive
// of anything else is an error of which NotImage is true.
func OpenArchive(ctx context.Context, f io.ReadSeeker, at io.ReaderAt) (*Image, error) {
	a, err := index(f, at)
	if err != nil {
		return nil, err
	}
	return open(ctx, a)
}

// OpenLayout reads the OCI layout in the directory dir, or a docker save archive
// that was unpacked there. It gives [NotImage] for any other directory.
func OpenLayout(ctx context.Context, dir *os.Root) (*Image, error) {
	return open(ctx, layout{dir})
}

// members are the files of an archive or a directory.
type members interface {
	member(name string) (r io.ReadCloser, size int64, err error)
}

func open(ctx context.Context, m members) (*Image, error) {
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
	img, err := resolve(ctx, blobs{m}, b)
	if err != nil {
		return nil, err
	}
	img.Names = indexNames(b)
	return img, nil
}

// listsImages reports whether b is what docker save writes, and not a file of that
// name in a root: programs for browsers have one too.
func listsImages(b []byte) bool {
	var list []map[string]json.RawMessage
	return json.Unmarshal(b, &list) == nil && slices.ContainsFunc(list, func(m map[string]json.RawMessage) bool { return m["Config"] != nil })
}

// isIndex does that for the index of a layout, which the file oci-layout is beside.
// Some tools forget that.
func isIndex(m members, b []byte) bool {
	if r, _, err := m.member("oci-layout"); err == nil {
		_ = r.Close()
		return true
	}
	var index manifest
	return json.Unmarshal(b, &index) == nil && slices.ContainsFunc(index.Manifests, func(d descriptor) bool { return d.Digest != "" })
}

func readMember(m members, name string) ([]byte, error) {
	r, _, err := m.member(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return readDocument(r)
}

func indexNames(b []byte) (names []string) {
	m, err := decode[manifest](b, layoutIndex)
	if err != nil {
		return nil
	}
	for _, d := range m.Manifests {
		for _, key := range annotations {
			if name := d.Annotations[key]; name != "" {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

// docker makes the image of a manifest of docker save. Its layers have no digest
// but that of their content, in the configuration.
func docker(m members, b []byte) (*Image, error) {
	list, err := decode[[]struct {
		Config   string
		RepoTags []string
		Layers   []string
	}](b, dockerManifest)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%d images in the archive: save one", len(list))
	}
	config, err := readMember(m, list[0].Config)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", list[0].Config, err)
	}
	var layers []Layer
	for _, name := range list[0].Layers {
		r, size, err := m.member(name)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
		_ = r.Close() // Only its size was wanted.
		layers = append(layers, Layer{Size: size, Open: func(context.Context) (io.ReadCloser, error) {
			r, _, err := m.member(name)
			return r, err
		}})
	}
	img, err := assemble(config, layers)
	if err != nil {
		return nil, err
	}
	img.Names = list[0].RepoTags
	return img, nil
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

// A layout is a directory. What is in it leads nowhere else.
type layout struct{ root *os.Root }

func (l layout) member(name string) (io.ReadCloser, int64, error) {
	info, err := l.root.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() { // Before it is opened: to open a fifo waits.
		return nil, 0, fmt.Errorf("%s: not a regular file", name)
	}
	f, err := l.root.Open(name)
	return f, info.Size(), err
}

// An archive knows where in a file its members are.
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
