package machines

import (
	"encoding/csv"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/sandbox"
)

// A MountSpec is what --mount says: one of a directory or file of this host, a volume
// and memory.
type MountSpec struct {
	Bind   *sandbox.Mount // Of a volume too, without a source.
	Volume string         // Its name.
	Tmpfs  *sandbox.Tmpfs
}

// mountKeys are the other names of keys.
var mountKeys = map[string]string{
	"src": "source", "dst": "target", "destination": "target", "ro": "readonly",
}

// mountRefusals are the keys of containers' tools that no machine can honour, but for
// the values that say what is so anyway.
var mountRefusals = map[string]struct{ fine, use string }{
	"bind-propagation":  {"private rprivate", "what is mounted later on either side is not passed on"},
	"bind-nonrecursive": {"false 0", "what is mounted below the source is shown too"},
	"bind-recursive":    {"enabled", "what is mounted below the source is shown too"},
	"consistency":       {"default consistent cached delegated", "want default, consistent, cached or delegated, which are the same here"},
	"volume-driver":     {"local", "volumes are directories of this host"},
	"volume-nocopy":     {"true 1", "nothing is copied from the image into a volume"},
	"volume-opt":        {"", "volumes are directories of this host, without options"},
	"volume-label":      {"", "'agentctl volume create --label' makes a volume with a label"},
	"volume-subpath":    {"", "a machine could lead it anywhere by a link; mount the whole volume"},
	"image-subpath":     {"", "--image is a machine's root, and no mount"},
}

// ParseMountSpec reads the comma list of --mount, as containers' tools have it: the type
// is bind, volume (without a word too) or tmpfs.
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

// A mountParser has the values of the keys that matter.
type mountParser struct{ values map[string]string }

func (p *mountParser) word(word string) error {
	key, value, given := strings.Cut(word, "=")
	key = strings.ToLower(strings.TrimSpace(key))
	if long, ok := mountKeys[key]; ok {
		key = long
	}
	if r, ok := mountRefusals[key]; ok {
		if (!given && key == "volume-nocopy") || (value != "" && containsWord(r.fine, value)) {
			return nil
		}
		return fmt.Errorf("%s: %s", word, r.use)
	}
	switch key {
	case "type", "source", "target", "tmpfs-size", "tmpfs-mode":
		if value == "" {
			return fmt.Errorf("%s: want a value", key)
		}
	case "readonly":
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

func containsWord(words, word string) bool {
	return strings.Contains(" "+words+" ", " "+word+" ")
}

// spec puts the values together.
func (p *mountParser) spec() (m MountSpec, err error) {
	target, readOnly := p.values["target"], false
	if !strings.HasPrefix(target, "/") {
		return m, fmt.Errorf("target %q: want an absolute path in the machine", target)
	}
	if word, ok := p.values["readonly"]; ok {
		if readOnly, err = strconv.ParseBool(word); err != nil {
			return m, fmt.Errorf("readonly=%s: want true or false", word)
		}
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

// only refuses keys of another type, and types that there are not.
func (p *mountParser) only(kind string) error {
	keys := map[string]string{"bind": "source", "volume": "source", "tmpfs": "tmpfs-size tmpfs-mode"}
	fit, ok := keys[kind]
	if !ok {
		return fmt.Errorf("type=%s: want bind, volume or tmpfs", kind)
	}
	for _, key := range []string{"source", "tmpfs-size", "tmpfs-mode"} {
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
