package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

const (
	// maxDocument bounds manifests, indexes and configurations; registries refuse
	// more than 4 MiB.
	maxDocument = 4 << 20
	// maxValues bounds the values in a document. A value of two bytes takes up to a
	// hundred times as much memory when it is decoded. An index of a hundred platforms
	// has some two thousand values.
	maxValues = 256 << 10
	// maxLayers is several times what container tools can mount (128).
	maxLayers = 1024
	// maxDepth is how deep indexes may be nested; tools write one or two levels.
	maxDepth = 4
)

// ErrDigest says that content does not have its digest.
var ErrDigest = errors.New("content does not have its digest")

// A Digest is the hash of some content, as sha256:HEX.
type Digest string

const algorithm = "sha256:"

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Sum(sum[:])
}

// Sum returns the digest with the given sum.
func Sum(sum []byte) Digest { return Digest(algorithm + hex.EncodeToString(sum)) }

// Hex returns the digits of a digest that check has passed.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), algorithm) }

func (d Digest) check() error {
	digits, ok := strings.CutPrefix(string(d), algorithm)
	if b, err := hex.DecodeString(digits); !ok || err != nil || len(b) != sha256.Size || strings.ToLower(digits) != digits {
		return fmt.Errorf("digest %q: want sha256: and 64 digits", d)
	}
	return nil
}

// A descriptor names a document or a layer. An index may say for which platform.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *Platform         `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

// A manifest is an index or the manifest of one image, depending on its fields.
type manifest struct {
	Manifests []descriptor `json:"manifests"`
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
}

// Config is an image's description of how to run it.
type Config struct {
	Architecture string            `json:"architecture,omitempty"`
	OS           string            `json:"os,omitempty"`
	Variant      string            `json:"variant,omitempty"` // Of amd64: v1 to v4; of arm64: v8.
	Created      time.Time         `json:"created,omitzero"`
	User         string            `json:"user,omitempty"`
	Env          []string          `json:"env,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	WorkingDir   string            `json:"working_dir,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`

	Volumes      []string     `json:"volumes,omitempty"`       // Paths whose content should outlive a container.
	ExposedPorts []string     `json:"exposed_ports,omitempty"` // PORT[/tcp|udp].
	StopSignal   string       `json:"stop_signal,omitempty"`   // A name or a number.
	Healthcheck  *Healthcheck `json:"healthcheck,omitempty"`
}

// A configuration is the JSON document of a Config.
type configuration struct {
	Platform
	Created *time.Time `json:"created"`
	Config  struct {
		User         string
		Env          []string
		Entrypoint   words
		Cmd          words
		WorkingDir   string
		Labels       map[string]string
		Volumes      keys
		ExposedPorts keys
		StopSignal   string
		Healthcheck  *healthcheck
	} `json:"config"`
	RootFS struct {
		DiffIDs []Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

// words are the words of a command. A single string, as old builders wrote, is its only
// word.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if len(b) > 0 && b[0] == '"' {
		err := json.Unmarshal(b, &one)
		*w = words{one}
		return err
	}
	return json.Unmarshal(b, (*[]string)(w))
}

func (c configuration) public() Config {
	p := Config{
		Architecture: c.Architecture, OS: c.OS, Variant: c.Variant, User: c.Config.User, Env: c.Config.Env, Entrypoint: c.Config.Entrypoint,
		Cmd: c.Config.Cmd, WorkingDir: absolute(c.Config.WorkingDir), Labels: c.Config.Labels,
		Volumes: c.Config.Volumes, ExposedPorts: c.Config.ExposedPorts, StopSignal: c.Config.StopSignal, Healthcheck: c.Config.Healthcheck.public(),
	}
	if c.Created != nil {
		p.Created = *c.Created
	}
	return p
}

// absolute returns an image's working directory; a relative one starts at "/".
func absolute(dir string) string {
	if dir == "" {
		return ""
	}
	return path.Join("/", dir)
}

// decode decodes a complete document.
func decode[T any](b []byte, what string) (v T, err error) {
	if n := separators(b); n > maxValues {
		return v, fmt.Errorf("%s: %d values, want at most %d", what, n, maxValues)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%s: %w", what, err)
	}
	return v, nil
}

// separators counts the commas of a document outside its strings. A list or object has
// one comma less than values.
func separators(b []byte) (n int) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch {
		case quoted && b[i] == '\\':
			i++
		case b[i] == '"':
			quoted = !quoted
		case !quoted && b[i] == ',':
			n++
		}
	}
	return n
}

// readDocument reads all of r, at most maxDocument bytes.
func readDocument(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(b) > maxDocument {
		err = fmt.Errorf("larger than a document may be (%d bytes)", maxDocument)
	}
	return b, err
}
