package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeTree writes modules, each named by its path beneath kernel/.
func makeTree(t *testing.T, files map[string][]byte) *ModuleTree {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "kernel"), 0o755))
	writeFile(t, filepath.Join(dir, builtinFile), []byte("kernel/fs/built-in.ko\n"))
	// A list that says otherwise must not matter.
	writeFile(t, filepath.Join(dir, "modules.dep"), []byte("kernel/a.ko: kernel/wrong.ko\n"))
	for name, b := range files {
		writeFile(t, filepath.Join(dir, "kernel", name), b)
	}
	tree, err := OpenModules(dir)
	must(t, err)
	return tree
}

func resolveNames(t *testing.T, tree *ModuleTree, names ...string) []string {
	t.Helper()
	modules, err := tree.Resolve(names...)
	must(t, err)
	var out []string
	for _, m := range modules {
		out = append(out, m.Name)
	}
	return out
}

func TestResolve(t *testing.T) {
	tree := makeTree(t, map[string][]byte{
		"a.ko":               makeModule("license=GPL", "depends=b-one,c", "name=a"),
		"x/b-one.ko.xz":      pack(t, ".xz", makeModule("depends=d")),
		"x/y/c.ko.zst":       pack(t, ".zst", makeModule("depends=d,built-in")),
		"d.ko.gz":            pack(t, ".gz", makeModule("depends=")),
		"soft.ko":            makeModule("softdep=pre: early none post: late a", "depends=d"),
		"early.ko":           makeModule(),
		"late.ko":            makeModule("depends=soft"),
		"softcycle.ko":       makeModule("softdep=pre: softcycle2"),
		"softcycle2.ko":      makeModule("depends=softcycle"),
		"odd.ko.notes":       []byte("no module"),
		"x/source.koala":     []byte("no module"),
		"x/directory.ko/a_b": []byte("no module"),
	})
	for _, c := range []struct{ names, want string }{
		{"a", "d b_one c a"},
		{"c a", "d c b_one a"},
		{"b_one b-one", "d b_one"},
		{"built-in built_in", ""},
		{"", ""},
		{"soft", "early d soft late b_one c a"},
		{"softcycle", "softcycle"},
		{"softcycle2", "softcycle softcycle2"},
	} {
		got := resolveNames(t, tree, strings.Fields(c.names)...)
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%q is %q and should be %q", c.names, got, want)
		}
	}
}

func TestResolveDecompresses(t *testing.T) {
	want := makeModule("depends=")
	for _, ext := range []string{"", ".xz", ".zst", ".gz"} {
		tree := makeTree(t, map[string][]byte{"a.ko" + ext: pack(t, ext, want)})
		got, err := tree.Resolve("a")
		must(t, err)
		if len(got) != 1 || !bytes.Equal(got[0].Data, want) {
			t.Errorf("a.ko%s: %+v", ext, got)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	tree := makeTree(t, map[string][]byte{
		"a.ko":         makeModule("depends=b"),
		"b.ko":         makeModule("depends=c"),
		"c.ko":         makeModule("depends=a"),
		"self.ko":      makeModule("depends=self"),
		"needy.ko":     makeModule("depends=gone-one"),
		"text.ko":      []byte("no ELF, but long enough to be looked at"),
		"program.ko":   makeELF(2, 1, nil, nil),
		"short.ko":     makeModule("depends=")[:100],
		"short.ko.xz":  pack(t, ".xz", makeModule("depends="))[:40],
		"packed.ko":    makeELF(1, 0, nil, []section{{name: ".modinfo", kind: 1, flags: 0x800, data: bytes.Repeat([]byte{1}, 64)}}),
		"bomb.ko.zst":  pack(t, ".zst", make([]byte, moduleBytes+1)),
		"big.ko":       makeModule(strings.Repeat("x", modinfoBytes+1)),
		"no_info.ko":   makeELF(1, 0, nil, nil),
		"wide_name.ko": makeModule("depends=../../etc/passwd"),
	})
	for _, c := range []struct{ name, want string }{
		{"a", "modules need each other: a → b → c → a"},
		{"self", "modules need each other: self → self"},
		{"needy", "module gone_one, needed by needy: not in"},
		{"gone", "module gone: not in"},
		{"text", "bad magic number"},
		{"program", "not a kernel module"},
		{"short", ""},
		{"packed", "compressed section"},
		{"bomb", "larger than allowed"},
		{"big", "larger than allowed"},
		{"no_info", "not a kernel module"},
		{"wide_name", "module passwd, needed by wide_name"},
		{"", "not in"},
	} {
		if _, err := tree.Resolve(c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v and not %q", c.name, err, c.want)
		}
	}
}

func TestResolveTypedErrors(t *testing.T) {
	tree := makeTree(t, map[string][]byte{"needy.ko": makeModule("depends=gone"), "a.ko": makeModule("depends=a")})
	_, err := tree.Resolve("needy")
	var missing *MissingModuleError
	if !errors.As(err, &missing) || missing.Module != "gone" || missing.NeededBy != "needy" {
		t.Errorf("missing module: %#v", err)
	}
	_, err = tree.Resolve("a")
	var cycle *ModuleCycleError
	if !errors.As(err, &cycle) || !slices.Equal(cycle.Path, []string{"a", "a"}) {
		t.Errorf("cycle: %#v", err)
	}
}

// A chain as long as the limit: recursion and memory are bounded.
func TestResolveLimit(t *testing.T) {
	files := map[string][]byte{}
	for i := range resolvedModules + 1 {
		files[fmt.Sprintf("m%d.ko", i)] = makeModule(fmt.Sprintf("depends=m%d", i+1))
	}
	files[fmt.Sprintf("m%d.ko", resolvedModules+1)] = makeModule()
	if _, err := makeTree(t, files).Resolve("m0"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a chain of %d: %v", resolvedModules+1, err)
	}
}

func TestOpenModulesNeedsATree(t *testing.T) {
	if _, err := OpenModules(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
}
