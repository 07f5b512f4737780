package image

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/agentd-go/agentd/internal/filelock"
)

// CacheVariable names the environment variable that moves the cache.
const CacheVariable = "AGENTCTL_CACHE"

// staleAfter is the age at which an unfinished build counts as abandoned. A build takes
// minutes; a day allows for a suspended laptop.
const staleAfter = 24 * time.Hour

// A Cache is a directory of finished entries, each named by the hash of its inputs. It
// is safe for use by many processes at once.
type Cache struct {
	dir  string
	host string // The root directory in which installed kernels are searched.
}

// Open returns the cache in dir and creates the directory when it is missing.
// An empty dir is the user's cache: $AGENTCTL_CACHE, else agentctl in
// $XDG_CACHE_HOME, else ~/.cache/agentctl.
func Open(dir string) (*Cache, error) {
	if dir == "" {
		var err error
		if dir, err = userCache(); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	c := &Cache{dir: dir, host: "/"}
	if err := os.MkdirAll(c.temporary(), 0o750); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	c.sweep(time.Now().Add(-staleAfter))
	return c, nil
}

// userCache does not use os.UserCacheDir: that differs on macOS, and one
// documented place is easier to find and to clean.
func userCache() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "agentctl"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory (set %s): %w", CacheVariable, err)
	}
	return filepath.Join(home, ".cache", "agentctl"), nil
}

// Path is the directory of the cache.
func (c *Cache) Path() string { return c.dir }

func (c *Cache) temporary() string { return filepath.Join(c.dir, "tmp") }

// lockFile is held locked by the process that fills a temporary directory.
const lockFile = "lock"

// sweep removes abandoned builds: those whose process has ended, and those without a
// lock that are older than t. It reports no errors, because an error only costs disk
// space.
func (c *Cache) sweep(t time.Time) {
	entries, _ := os.ReadDir(c.temporary())
	for _, e := range entries {
		path := filepath.Join(c.temporary(), e.Name())
		if info, err := e.Info(); err == nil && abandoned(path, info.ModTime().Before(t)) {
			_ = os.RemoveAll(path)
		}
	}
}

func abandoned(dir string, old bool) bool {
	l, err := tryLock(filepath.Join(dir, lockFile))
	if err != nil {
		return old && !errors.Is(err, filelock.ErrHeld)
	}
	_ = l.Close() // Only the attempt to lock it counts.
	return true
}

// A scratch is a temporary directory for a build. The cache sweeps it after its process
// has ended.
type scratch struct {
	dir  string
	lock io.Closer
}

func (c *Cache) scratch(kind string) (*scratch, error) {
	dir, err := os.MkdirTemp(c.temporary(), kind+"-")
	if err != nil {
		return nil, err
	}
	// It gets its final name only when it is locked: otherwise another process could
	// sweep it.
	unlocked := filepath.Join(dir, "new")
	l, err := newLock(unlocked)
	if err == nil {
		err = os.Rename(unlocked, filepath.Join(dir, lockFile))
	}
	s := &scratch{dir, l}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// remove may fail: sweep removes the rest after the process has ended.
func (s *scratch) remove() {
	_ = os.RemoveAll(s.dir)
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

// Dir returns the directory kind/key of the cache. If it does not exist, build fills an
// empty directory, and a rename then publishes it in one step. The directory must not
// be changed afterwards.
func (c *Cache) Dir(kind, key string, build func(dir string) error) (string, error) {
	final, err := c.place(kind, key)
	if err != nil || isDir(final) {
		return final, err
	}
	return c.stage(kind, func(dir string) (string, error) { return key, build(dir) })
}

// stage is like Dir for an entry whose key is known only after it is built: build
// returns the key.
func (c *Cache) stage(kind string, build func(dir string) (key string, err error)) (string, error) {
	tmp, err := c.scratch(kind)
	if err != nil {
		return "", err
	}
	defer tmp.remove()
	made := filepath.Join(tmp.dir, "entry")
	if err := os.Mkdir(made, 0o755); err != nil { //nolint:gosec // A guest root's mode; the cache above it is private.
		return "", err
	}
	key, err := build(made)
	if err != nil {
		return "", err
	}
	final, err := c.place(kind, key)
	if err != nil {
		return "", err
	}
	return final, publish(made, final)
}

func (c *Cache) place(kind, key string) (string, error) {
	if !filepath.IsLocal(kind) || !filepath.IsLocal(key) {
		return "", fmt.Errorf("cache entry %q/%q: not a name", kind, key)
	}
	return filepath.Join(c.dir, kind, key), nil
}

// publish renames made to final. The rename fails if another process was first; its
// directory is then equal to ours.
func publish(made, final string) error {
	if err := os.MkdirAll(filepath.Dir(final), 0o750); err != nil {
		return err
	}
	if err := os.Rename(made, final); err != nil && !isDir(final) {
		return err
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// A keyer hashes the inputs of a cache entry. Each is preceded by its length,
// so that no two lists of inputs give the same key.
type keyer struct{ h hash.Hash }

// newKeyer starts with the recipe: the name and version of the way in which the entry
// is built. Change it whenever the same inputs give another result.
func newKeyer(recipe string) keyer {
	k := keyer{sha256.New()}
	k.add([]byte(recipe))
	return k
}

func (k keyer) add(b []byte) {
	k.h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
	k.h.Write(b)
}

func (k keyer) addFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	k.add(h.Sum(nil))
	return nil
}

func (k keyer) key() string { return hex.EncodeToString(k.h.Sum(nil)) }

// writeNew writes a file that must not exist yet and waits until it is on disk.
// Otherwise the rename of its directory could survive a crash that loses the file's
// bytes.
func writeNew(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Sync(), f.Close())
}

// exists reports whether path exists, as a file of any type.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
