package oci

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"io"
	"slices"
	"time"
)

// A Saved is an image for Save, with its whole root in one layer.
type Saved struct {
	Names  []string // NAME:TAG; none for one without a name.
	Config Config
	// Layer writes the archive of the root. Save calls it twice, because a tar header
	// needs the length first, so it must write the same bytes each time.
	Layer func(io.Writer) error
}

// Save writes an archive as docker save does, which docker load, podman load and
// [OpenArchive] read. The same images give the same bytes.
func Save(to io.Writer, images []Saved) error {
	w := &saver{tar: tar.NewWriter(to)}
	for _, img := range images {
		if err := w.image(img); err != nil {
			return err
		}
	}
	b, err := json.Marshal(w.manifest)
	if err != nil {
		return err
	}
	if err := w.document(dockerManifest, b); err != nil {
		return err
	}
	return w.tar.Close()
}

type saver struct {
	tar      *tar.Writer
	manifest []saved
}

func (w *saver) image(img Saved) error {
	h := sha256.New()
	size := &counter{to: h}
	if err := img.Layer(size); err != nil {
		return err
	}
	diffID := Sum(h.Sum(nil))
	config, err := json.Marshal(img.Config.document(diffID))
	if err != nil {
		return err
	}
	name, layer := DigestOf(config).Hex()+".json", diffID.Hex()+".tar"
	known := func(s saved) bool { return s.Config == name }
	if i := slices.IndexFunc(w.manifest, known); i >= 0 {
		w.manifest[i].RepoTags = append(w.manifest[i].RepoTags, img.Names...)
		return nil
	}
	if err := w.document(name, config); err != nil {
		return err
	}
	written := slices.ContainsFunc(w.manifest, func(s saved) bool { return s.Layers[0] == layer })
	w.manifest = append(w.manifest, saved{Config: name, RepoTags: img.Names, Layers: []string{layer}})
	if written {
		return nil
	}
	if err := w.header(layer, size.n); err != nil {
		return err
	}
	return img.Layer(w.tar)
}

func (w *saver) document(name string, b []byte) error {
	if err := w.header(name, int64(len(b))); err != nil {
		return err
	}
	_, err := w.tar.Write(b)
	return err
}

func (w *saver) header(name string, size int64) error {
	const everybodyReads = 0o644
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: everybodyReads, ModTime: time.Unix(0, 0)})
}

// counter counts the bytes that it writes through.
type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}

// document returns the configuration of an image with one layer.
func (c Config) document(layer Digest) any {
	type settings struct {
		User         string            `json:",omitempty"`
		Env          []string          `json:",omitempty"`
		Entrypoint   []string          `json:",omitempty"`
		Cmd          []string          `json:",omitempty"`
		WorkingDir   string            `json:",omitempty"`
		Labels       map[string]string `json:",omitempty"`
		Volumes      keys              `json:",omitempty"`
		ExposedPorts keys              `json:",omitempty"`
		StopSignal   string            `json:",omitempty"`
		Healthcheck  *healthcheck      `json:",omitempty"`
	}
	type root struct {
		Type    string   `json:"type"`
		DiffIDs []Digest `json:"diff_ids"`
	}
	p := Platform{OS: c.OS, Architecture: c.Architecture}
	if p.OS == "" {
		p = Platform{OS: machineOS, Architecture: native}
	}
	return struct {
		Architecture string    `json:"architecture"`
		OS           string    `json:"os"`
		Variant      string    `json:"variant,omitempty"`
		Created      time.Time `json:"created,omitzero"`
		Config       settings  `json:"config"`
		RootFS       root      `json:"rootfs"`
	}{
		p.Architecture, p.OS, c.Variant, c.Created,
		settings{c.User, c.Env, c.Entrypoint, c.Cmd, c.WorkingDir, c.Labels, c.Volumes, c.ExposedPorts, c.StopSignal, c.Healthcheck.document()},
		root{"layers", []Digest{layer}},
	}
}
