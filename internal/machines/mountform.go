package machines

import (
	"encoding/csv"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/sandbox"
)

// A MountSpec is the value of --mount: a directory or file of this host, a volume, or a
// tmpfs.
type MountSpec struct {
	Bind   *sandbox.Mount // Set for a volume too, without a source.
	Volume string         // Its name.
	NoCopy bool           // The volume gets no files of an image.
	Tmpfs  *sandbox.Tmpfs
}

// mountKeys maps other names of keys to ours.
var mountKeys = map[string]string{
	"src": "source", "dst": "target", "destination": "target", "ro": "readonly",
}

// mountRefusals are keys of container tools that machines cannot honour. A value in
// fine is accepted, because it asks for what always holds.
var mountRefusals = map[string]struct{ fine, use string }{
	"bind-propagation":  {"private rprivate", "what is mounted later on either side is not passed on"},
	"bind-nonrecursive": {"false 0", "what is mounted below the source is shown too"},
	"bind-recursive":    {"enabled", "what is mounted below the source is shown too"},
	"consistency":       {"default consistent cached delegated", "want default, consistent, cached or delegated, which are the same here"},
	"volume-driver":     {"local", "volumes are directories of this host"},
	"volume-opt":        {"", "volumes are directories of this host, without options"},
	"volume-label":      {"", "'agentctl volume create --label' makes a volume with a label"},
	"volume-subpath":    {"", "a machine could lead it anywhere by a link; mount the whole volume"},
	"image-subpath":     {"", "--image is a machine's root, and no mount"},
}

// ParseMountSpec reads the comma list of --mount in the format of container tools. The
// type is bind, volume (the default) or tmpfs.
func ParseMountSpec(s string) (m MountSpec, err error) {
	words, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return m, fmt.Errorf("mount %q: %w", s, err)
	}
	p := mountParser{values: map[string]string{"type": "volume"}}
	for _, word := range words {
		if err := p.word(word); err != nil {
			return m, fmt.Errorf("mount %q: %w", s, err)
		}
	}
	if m, err = p.spec(); err != nil {
		return m, fmt.Errorf("mount %q: %w", s, err)
	}
	return m, nil
}

// A mountParser holds the values of the accepted keys.
type mountParser struct{ values map[string]string }

func (p *mountParser) word(word string) error {
	key, value, given := strings.Cut(word, "=")
	key = strings.ToLower(strings.TrimSpace(key))
	if long, ok := mountKeys[key]; ok {
		key = long
	}
	if r, ok := mountRefusals[key]; ok {
		if value != "" && containsWord(r.fine, value) {
			return nil
		}
		return fmt.Errorf("%s: %s", word, r.use)
	}
	switch key {
	case "type", "source", "target", "tmpfs-size", "tmpfs-mode":
		if value == "" {
			return fmt.Errorf("%s: want a value", key)
		}
	case "readonly", "volume-nocopy":
		if !given {
			value = "true"
		}
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	if _, twice := p.values[key]; twice && key != "type" {
		return fmt.Errorf("%s: given twice", key)
	}
	p.values[key] = value
	return nil
}

// is returns the value of a key that is true or false, and false without it.
func (p *mountParser) is(key string) (bool, error) {
	word, ok := p.values[key]
	if !ok {
		return false, nil
	}
	yes, err := strconv.ParseBool(word)
	if err != nil {
		return false, fmt.Errorf("%s=%s: want true or false", key, word)
	}
	return yes, nil
}

func containsWord(words, word string) bool {
	return strings.Contains(" "+words+" ", " "+word+" ")
}

// spec makes the MountSpec of the values.
func (p *mountParser) spec() (m MountSpec, err error) {
	target := p.values["target"]
	if !strings.HasPrefix(target, "/") {
		return m, fmt.Errorf("target %q: want an absolute path in the machine", target)
	}
	readOnly, err := p.is("readonly")
	if err == nil {
		m.NoCopy, err = p.is("volume-nocopy")
	}
	if err != nil {
		return m, err
	}
	if err := p.only(p.values["type"]); err != nil {
		return m, err
	}
	switch p.values["type"] {
	case "bind":
		m.Bind = &sandbox.Mount{Target: target, ReadOnly: readOnly}
		m.Bind.Source, err = filepath.Abs(p.values["source"])
		return m, err
	case "volume":
		m.Volume, m.Bind = p.values["source"], &sandbox.Mount{Target: target, ReadOnly: readOnly}
		if !IsVolumeName(m.Volume) {
			return m, fmt.Errorf("source %q: want the name of a volume; type=bind shows a directory", m.Volume)
		}
		return m, nil
	}
	m.Tmpfs, err = p.tmpfs(target, readOnly)
	return m, err
}

// only refuses unknown types, and keys that the type does not have.
func (p *mountParser) only(kind string) error {
	keys := map[string]string{"bind": "source", "volume": "source volume-nocopy", "tmpfs": "tmpfs-size tmpfs-mode"}
	fit, ok := keys[kind]
	if !ok {
		return fmt.Errorf("type=%s: want bind, volume or tmpfs", kind)
	}
	for _, key := range []string{"source", "tmpfs-size", "tmpfs-mode", "volume-nocopy"} {
		if _, given := p.values[key]; given && !containsWord(fit, key) {
			return fmt.Errorf("%s: type=%s has none", key, kind)
		}
	}
	if _, given := p.values["source"]; !given && kind != "tmpfs" {
		return fmt.Errorf("no source: type=%s needs one", kind)
	}
	return nil
}

func (p *mountParser) tmpfs(target string, readOnly bool) (t *sandbox.Tmpfs, err error) {
	t = &sandbox.Tmpfs{Target: target, ReadOnly: readOnly}
	if size, ok := p.values["tmpfs-size"]; ok {
		if t.SizeMiB, err = ParseSize(size); err != nil {
			return nil, fmt.Errorf("tmpfs-size %w", err)
		}
	}
	if mode, ok := p.values["tmpfs-mode"]; ok {
		if t.Mode, err = parseMode(mode); err != nil {
			return nil, fmt.Errorf("tmpfs-mode: %w", err)
		}
	}
	return t, nil
}
