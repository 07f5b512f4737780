package reference

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/image"
)

const (
	// recipe names the unpacked files and the method; a change makes new cache entries.
	recipe = "reference 1"
	// The archives take 30 to 45 MB.
	archiveBytes = 512 << 20
	// Bounds each file in them.
	fileBytes = 256 << 20
	// npm has nothing to do after the end of its output.
	npmGrace = 5 * time.Second
)

// A Release is a published version, unpacked.
type Release struct {
	Version string
	Program string // The host program, which embeds the agent.
	Library string // The library that embeds the kernel.
}

// packages are the published packages by Go's names of architectures.
var packages = map[string]string{
	"amd64": "@superradcompany/microsandbox-linux-x64-gnu",
	"arm64": "@superradcompany/microsandbox-linux-arm64-gnu",
}

// Fetch returns a published version for an architecture, by Go's name. npm downloads it once from its configured
// registry; the cache keeps it. The archive must have the SHA-512 that the registry
// states for the version.
func Fetch(ctx context.Context, c *image.Cache, architecture, version string) (Release, error) {
	if version == "" || strings.Trim(version, "0123456789.") != "" {
		return Release{}, fmt.Errorf("reference version %q: digits and points only", version)
	}
	packageName, ok := packages[architecture]
	if !ok {
		return Release{}, fmt.Errorf("no reference is published for %s", architecture)
	}
	key := sha256.Sum256([]byte(recipe + "\x00" + packageName + "@" + version))
	dir, err := c.Dir("reference", hex.EncodeToString(key[:]), func(dir string) error {
		return download(ctx, dir, packageName+"@"+version)
	})
	if err != nil {
		return Release{}, fmt.Errorf("fetch %s@%s: %w", packageName, version, err)
	}
	return OpenRelease(version, dir)
}

// OpenRelease describes an unpacked package: bin/msb and lib/libkrunfw.so.*
// beneath dir.
func OpenRelease(version, dir string) (Release, error) {
	program := filepath.Join(dir, "bin", "msb")
	if _, err := os.Stat(program); err != nil { //nolint:gosec // G703: tests only.
		return Release{}, err
	}
	libraries, err := filepath.Glob(filepath.Join(dir, "lib", "libkrunfw.so.*"))
	if err != nil {
		return Release{}, err
	}
	if len(libraries) != 1 {
		return Release{}, fmt.Errorf("%s: %d libraries libkrunfw.so.* and not one", dir, len(libraries))
	}
	return Release{Version: version, Program: program, Library: libraries[0]}, nil
}

func download(ctx context.Context, dir, spec string) error {
	integrity, err := npm(ctx, dir, "view", spec, "dist.integrity", "--json")
	if err != nil {
		return err
	}
	var want string
	if err := json.Unmarshal(integrity, &want); err != nil {
		return fmt.Errorf("the registry's integrity: %w", err)
	}
	tmp, err := os.MkdirTemp("", "reference-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if _, err := npm(ctx, tmp, "pack", spec, "--silent", "--ignore-scripts", "--pack-destination", tmp); err != nil {
		return err
	}
	archive, err := onlyArchive(tmp)
	if err != nil {
		return err
	}
	if err := verify(archive, want); err != nil {
		return err
	}
	return unpack(dir, archive)
}

// npm runs the program in dir, which has no package.json and no .npmrc.
func npm(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "npm", args...) //nolint:gosec // G702: no shell; Fetch checks the version.
	cmd.Dir = dir
	cmd.WaitDelay = npmGrace
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("npm %s: %w: %s", args[0], err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out, nil
}

func onlyArchive(dir string) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("npm pack left %d archives and not one", len(files))
	}
	f, err := os.Open(files[0])
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAll(f, archiveBytes)
}

// verify checks an archive against an integrity in the registry's form: sha512-BASE64.
func verify(archive []byte, integrity string) error {
	want, ok := strings.CutPrefix(integrity, "sha512-")
	if !ok {
		return fmt.Errorf("integrity %q: not a SHA-512", integrity)
	}
	sum := sha512.Sum512(archive)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != want {
		return fmt.Errorf("the archive's SHA-512 is %s and should be %s", got, want)
	}
	return nil
}

// unpack extracts the program and the library from the archive.
func unpack(dir string, archive []byte) error {
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, ok := wanted(h.Name)
		if !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, name, t); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func wanted(name string) (string, bool) {
	name = strings.TrimPrefix(name, "package/")
	library, _ := path.Match("lib/libkrunfw.so.*", name)
	return name, library || name == "bin/msb"
}

func unpackFile(root *os.Root, name string, r io.Reader) error {
	b, err := readAll(r, fileBytes)
	if err != nil {
		return err
	}
	if err := root.Mkdir(path.Dir(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return root.WriteFile(name, b, 0o755)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w (%d bytes)", image.ErrTooLarge, limit)
	}
	return b, err
}
