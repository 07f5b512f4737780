package image

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/image/oci"
)

const (
	imageKind   = "images"
	imageRecord = "image.json"
	nameKind    = "names"
	// importLock is shared by all imports; a removal holds it exclusively.
	importLock = "import.lock"
	// latest is the tag of a name that has none.
	latest = ":latest"
	// maxImageName bounds an image's name, as registries do.
	maxImageName = 255
)

// ErrNoImage says that the cache has no image of that name.
var ErrNoImage = errors.New("no such image")

// An Image is a root file system in the cache that machines can start from.
type Image struct {
	ID       string   // sha256:HEX: the digest of its configuration, or of its content.
	Names    []string // NAME:TAG, sorted; none for one that was only run.
	Config   oci.Config
	Layers   []string  // Digests of the archives it is made of, the lowest first.
	Source   string    // The path or reference of the first import.
	FSType   string    // erofs serves as a lower under an upper; a disk of any other type is copied.
	Path     string    // The file with the file system.
	Size     int64     // Bytes on the host's disk, without holes.
	Imported time.Time // First.
}

// An imageEntry is what image.json says. Paths in it are relative to the cache.
type imageEntry struct {
	ID      string     `json:"id"`
	Config  oci.Config `json:"config"`
	Layers  []string   `json:"layers,omitempty"`
	Source  string     `json:"source"`
	FSType  string     `json:"fstype"`
	Content string     `json:"content"` // The directory KIND/KEY that holds the file.
	File    string     `json:"file"`
}

// A nameEntry is the file of one name.
type nameEntry struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// Images lists the images of the cache, the newest import first.
func (c *Cache) Images() ([]Image, error) {
	names, err := c.imageNames()
	if err != nil {
		return nil, err
	}
	dirs, err := c.entriesOf(imageKind)
	if err != nil {
		return nil, err
	}
	var all []Image
	for _, dir := range dirs {
		i, err := c.loadImage(dir, names)
		if errors.Is(err, fs.ErrNotExist) {
			continue // Removed meanwhile.
		}
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	slices.SortStableFunc(all, func(a, b Image) int {
		return cmp.Or(b.Imported.Compare(a.Imported), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

func (c *Cache) loadImage(dir string, names []nameEntry) (Image, error) {
	e, err := readRecord[imageEntry](dir, imageRecord)
	if err != nil {
		return Image{}, err
	}
	if !filepath.IsLocal(e.Content) || filepath.Base(e.File) != e.File || e.ID != "sha256:"+filepath.Base(dir) {
		return Image{}, damaged(dir, fmt.Errorf("content %q", e.Content))
	}
	i := Image{ID: e.ID, Config: e.Config, Layers: e.Layers, Source: e.Source, FSType: e.FSType, Path: filepath.Join(c.dir, e.Content, e.File)}
	info, err := os.Stat(i.Path)
	if err != nil {
		return Image{}, damaged(dir, err)
	}
	i.Size, i.Imported = allocated(info), info.ModTime()
	if info, err := os.Stat(filepath.Join(dir, imageRecord)); err == nil {
		i.Imported = info.ModTime()
	}
	for _, n := range names {
		if n.ID == i.ID {
			i.Names = append(i.Names, n.Name)
		}
	}
	slices.Sort(i.Names)
	return i, nil
}

// imageNames reads all names. A name is a file of its own, so that two tools can
// give names at once.
func (c *Cache) imageNames() ([]nameEntry, error) {
	paths, err := c.entriesOf(nameKind)
	if err != nil {
		return nil, err
	}
	var all []nameEntry
	for _, p := range paths {
		if filepath.Ext(p) != ".json" {
			continue
		}
		n, err := readRecord[nameEntry](p, "")
		if errors.Is(err, fs.ErrNotExist) {
			continue // Removed meanwhile.
		}
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// readRecord reads the record of an entry of the cache: a file in its directory, or "" for an
// entry that is a file.
func readRecord[T any](entry, file string) (v T, err error) {
	b, err := os.ReadFile(filepath.Join(entry, file)) //nolint:gosec // G703: in the cache.
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		err = damaged(entry, err)
	}
	return v, err
}

func damaged(entry string, err error) error {
	return fmt.Errorf("damaged cache entry (remove %s): %w", entry, err)
}

// writeRecord writes a record to a new file, and waits until it is on the disk.
func writeRecord(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeNew(path, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

// Image is [Cache.ImageFor] for this host's architecture.
func (c *Cache) Image(nameOrID string) (Image, error) { return c.ImageFor(runtime.GOARCH, nameOrID) }

// ImageFor finds an image of the cache by a name, an ID or the beginning of an ID. A name
// may have an image for each architecture; one for another is found only if there is none
// for that one.
func (c *Cache) ImageFor(architecture, nameOrID string) (Image, error) {
	all, err := c.Images()
	if err != nil {
		return Image{}, err
	}
	if name, err := FullName(nameOrID); err == nil {
		bears := func(i Image) bool { return slices.Contains(i.Names, name) }
		at := slices.IndexFunc(all, func(i Image) bool { return bears(i) && i.architecture() == architecture })
		if at < 0 {
			at = slices.IndexFunc(all, bears)
		}
		if at >= 0 {
			return all[at], nil
		}
	}
	var found []Image
	id := strings.TrimPrefix(nameOrID, "sha256:")
	for _, i := range all {
		if len(id) >= minID && strings.HasPrefix(strings.TrimPrefix(i.ID, "sha256:"), id) {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return Image{}, fmt.Errorf("%w: %s", ErrNoImage, nameOrID)
	case 1:
		return found[0], nil
	}
	return Image{}, fmt.Errorf("%s: %d images have an ID that begins so", nameOrID, len(found))
}

// FullName adds the default tag to a name without one, and refuses an invalid name.
func FullName(name string) (string, error) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:@+"
	if name == "" || len(name) > maxImageName || strings.Trim(name, letters) != "" || strings.ContainsAny(name[:1], "./:@-+_") {
		return "", fmt.Errorf("image name %q: want letters, digits and ._-/:@+, a letter or digit first", name)
	}
	last := name[strings.LastIndex(name, "/")+1:]
	if !strings.ContainsAny(last, ":@") {
		name += latest
	}
	return name, nil
}

// TagImage gives an image one more name. It takes the name from the image that had it.
func (c *Cache) TagImage(nameOrID, name string) (Image, error) {
	unlock, err := c.lockImports()
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	i, err := c.Image(nameOrID)
	if err != nil {
		return Image{}, err
	}
	full, err := FullName(name)
	if err != nil {
		return Image{}, err
	}
	if err := c.tag(full, i.ID, i.Config); err != nil {
		return Image{}, err
	}
	return c.Image(i.ID)
}

// tag gives an image a name, and takes it from the image of the same architecture that
// had it.
func (c *Cache) tag(name, id string, config oci.Config) error {
	if err := os.MkdirAll(filepath.Join(c.dir, nameKind), 0o750); err != nil {
		return err
	}
	tmp, err := c.scratch(nameKind)
	if err != nil {
		return err
	}
	defer tmp.remove()
	file := filepath.Join(tmp.dir, "name")
	err = writeRecord(file, nameEntry{name, id})
	return errors.Join(err, os.Rename(file, c.nameFile(name, Image{Config: config}.architecture())))
}

// architecture is the one that the image is for: this host's if the image does not say it.
func (i Image) architecture() string { return cmp.Or(i.Config.Architecture, runtime.GOARCH) }

func (i Image) platform() oci.Platform {
	return oci.Platform{OS: i.Config.OS, Architecture: i.Config.Architecture, Variant: i.Config.Variant}
}

// isFor notes the platform that was asked for, if the image does not state its own. The
// same root may be imported for several, so the ID then depends on the platform.
func (e *imageEntry) isFor(p oci.Platform) {
	if e.Config.Architecture != "" || p.Architecture == "" {
		return
	}
	e.Config.OS, e.Config.Architecture, e.Config.Variant = p.OS, p.Architecture, p.Variant
	e.ID = string(oci.DigestOf([]byte(e.ID + " " + p.String())))
}

// nameFile returns the file of a name for images of an architecture.
func (c *Cache) nameFile(name, architecture string) string {
	k := newKeyer("name")
	k.add([]byte(name))
	if architecture != runtime.GOARCH {
		k.add([]byte(architecture))
	}
	return filepath.Join(c.dir, nameKind, k.key()+".json")
}

// record writes image.json, unless the image is recorded already.
func (c *Cache) record(e imageEntry) error {
	digits, ok := strings.CutPrefix(e.ID, "sha256:")
	if _, err := hex.DecodeString(digits); !ok || err != nil {
		return fmt.Errorf("image ID %q: not a digest", e.ID)
	}
	_, err := c.Dir(imageKind, digits, func(dir string) error { return writeRecord(filepath.Join(dir, imageRecord), e) })
	return err
}
