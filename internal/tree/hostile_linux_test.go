package tree_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/tree"
)

// hostile makes a random archive that tries to leave its directory: through links that it
// makes before, names with dots, second names of files outside.
func hostile(r *rand.Rand, outside string) []byte {
	parts := []string{"a", "b", "c", "..", ".", "", "etc", "\xff", strings.Repeat("n", 300), ".agentctl-x"}
	targets := []string{"..", "../..", outside, outside + "/secret", "/", "a", "b/c", ".", "../outside", "/proc/self/cwd", "a/../../outside"}
	name := func() string {
		var all []string
		for range 1 + r.IntN(4) {
			all = append(all, parts[min(r.IntN(len(parts)), r.IntN(len(parts)))])
		}
		if r.IntN(20) == 0 {
			return outside + "/x"
		}
		return strings.Join(all, "/")
	}
	kinds := []pax.Kind{pax.Regular, pax.Regular, pax.Directory, pax.Directory, pax.Symlink, pax.Symlink, pax.HardLink, pax.Fifo, pax.CharDevice}
	var b []byte
	for range 1 + r.IntN(30) {
		h := &pax.Header{Name: name(), Kind: kinds[r.IntN(len(kinds))], Mode: r.Uint32N(0o10000), UID: r.Uint32N(3), Sec: r.Int64N(1 << 32)}
		if h.Kind == pax.Symlink || h.Kind == pax.HardLink {
			h.Link = targets[r.IntN(len(targets))]
		}
		if h.Kind == pax.HardLink && r.IntN(2) == 0 {
			h.Link = name()
		}
		if h.Kind == pax.Regular {
			h.Size = r.Int64N(3000)
			if r.IntN(4) == 0 {
				h.Extents = []pax.Extent{{Offset: h.Size / 3, Length: h.Size / 3}}
			}
		}
		var err error
		if b, err = pax.AppendHeader(b, h); err == nil {
			b = append(append(b, make([]byte, h.Stored())...), pax.Padding(h)...)
		}
	}
	b = append(b, pax.End()...)
	for range r.IntN(3) { // Noise.
		b[r.IntN(len(b))] = byte(r.Uint32())
	}
	return b
}

// A hostile archive writes nothing outside of its directory. AGENTD_LONG=1 tries 10,000.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	count := 500
	if os.Getenv("AGENTD_LONG") != "" {
		count = 10000
	}
	for seed := range count {
		tryHostile(t, uint64(seed))
		if t.Failed() {
			t.Fatalf("repeat with seed %d", seed)
		}
	}
}

func tryHostile(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	top, err := os.MkdirTemp("", "hostile") //nolint:usetesting // Thousands of them, which t.TempDir would keep to the end.
	if err != nil {
		t.Fatal(err)
	}
	defer removeAll(top)
	outside, inside := filepath.Join(top, "outside"), filepath.Join(top, "in", "side")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside+"/secret", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r.IntN(2) == 0 { // The directory has a link from before.
		if err := os.Symlink(outside, inside+"/a"); err != nil {
			t.Fatal(err)
		}
	}
	times(t, top)
	before := outsideFacts(t, top)
	for range 2 { // The second meets what the first has made.
		_ = os.Chmod(inside, 0o700) // The archive may have forbidden everything.
		how := tree.Unpack{Devices: true, Replace: r.IntN(2) == 0, Sync: r.IntN(8) == 0, Owners: os.Geteuid() == 0}
		u, err := tree.NewUnpacker(inside, false, pax.NewReader(source(hostile(r, outside))), how)
		if err != nil {
			t.Fatal(err)
		}
		_ = u.Run() // It may fail, and must not harm.
		u.Close()
		same(t, outsideFacts(t, top), before)
		_ = filepath.WalkDir(inside, noTemp(t))
	}
}

// removeAll removes a tree with directories that forbid it.
func removeAll(top string) {
	for os.RemoveAll(top) != nil {
		if filepath.WalkDir(top, func(path string, d os.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		}) != nil {
			return
		}
	}
}

// noTemp reports incomplete files, of which the names that the archive may have are none.
func noTemp(t *testing.T) func(string, os.DirEntry, error) error {
	t.Helper()
	return func(path string, _ os.DirEntry, _ error) error {
		if base := filepath.Base(path); strings.HasPrefix(base, tree.TempPrefix) && base != ".agentctl-x" {
			t.Errorf("%s was left", path)
		}
		return nil
	}
}

// outsideFacts describes what is not inside.
func outsideFacts(t *testing.T, top string) map[string]fact {
	t.Helper()
	all := map[string]fact{}
	for _, dir := range []string{top, filepath.Join(top, "outside"), filepath.Join(top, "in")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			f := fact{Mode: uint32(info.Mode()), Size: info.Size(), Sec: info.ModTime().Unix()}
			if e.Name() == "side" {
				f = fact{Mode: uint32(info.Mode().Type())}
			}
			all[filepath.Join(dir, e.Name())] = f
		}
	}
	return all
}
