package erofs

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func names(all map[string]found) []string {
	list := slices.Sorted(maps.Keys(all))
	return list[1:] // Without the root.
}

// What layers make of each other.
func TestLayers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		steps []step
		want  string
	}{
		{"missing directories", []step{file("a/b/c", "x")}, "a a/b a/b/c"},
		{"dots", []step{dir("./"), dir("."), file("./a", ""), dir("b/")}, "a b"},
		{"whiteout", []step{file("a/x", ""), file("a/y", ""), layer, hide("a/x")}, "a a/y"},
		{"whiteout of a directory", []step{file("a/x", ""), file("b", ""), layer, hide("a")}, "b"},
		{"whiteout, then anew", []step{file("a/x", ""), layer, hide("a"), file("a/y", "")}, "a a/y"},
		{"anew, then whiteout", []step{file("a/x", ""), layer, file("a/y", ""), hide("a")}, "a a/y"},
		{"whiteout of nothing", []step{file("a", ""), layer, hide("b"), hide("c/d"), hide("a/b")}, "a"},
		{"whiteout in its own layer", []step{file("a", ""), hide("a")}, "a"},
		{"opaque", []step{file("a/x/1", ""), file("a/y", ""), layer, dir("a"), hideAll("a"), file("a/z", "")}, "a a/z"},
		{"opaque after", []step{file("a/x/1", ""), layer, file("a/x/2", ""), file("a/z", ""), hideAll("a")}, "a a/x a/x/2 a/z"},
		{"opaque root", []step{file("a/x", ""), layer, hideAll("."), file("b", "")}, "b"},
		{"opaque in its own layer", []step{file("a/x", ""), hideAll("a"), layer, file("a/y", ""), hideAll("a"), layer, hideAll("a")}, "a"},
		{"file for directory", []step{file("a/x", ""), layer, file("a", "")}, "a"},
		{"directory for file", []step{file("a", ""), layer, dir("a"), file("a/x", "")}, "a a/x"},
		{"directory for link", []step{dir("b"), link("a", "b"), layer, dir("a"), file("a/x", "")}, "a a/x b"},
		{"through a link", []step{dir("usr/lib"), link("lib", "usr/lib"), layer, file("lib/x", "")}, "lib usr usr/lib usr/lib/x"},
		{"through an absolute link", []step{link("lib", "/usr/../usr/lib/"), layer, file("lib/x", "")}, "lib usr usr/lib usr/lib/x"},
		{"link outside", []step{link("out", "../../../etc"), file("out/x", "")}, "etc etc/x out"},
		{"whiteout through a link", []step{file("usr/lib/x", ""), link("lib", "usr/lib"), layer, hide("lib/x")}, "lib usr usr/lib"},
		{"hard link of an earlier layer", []step{file("a", "x"), layer, hard("b", "a"), hide("a")}, "b"},
		{"sorting", []step{file("+", ""), file("-", ""), file(".a", ""), file("a", ""), file("a.b/c", ""), file("a-b", ""), file("ü", "")}, "+ - .a a a-b a.b a.b/c ü"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(names(image(t, tt.steps...)), " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// What is refused, and that the message names entry and rule.
func TestRefused(t *testing.T) {
	deep := make([]step, 0, 3)
	for i := range 3 {
		here := strings.Repeat("d/", 1000)
		deep = append(deep, dir(here), link(fmt.Sprint("l", i), here))
		deep = append(deep, dir(fmt.Sprint("l", i, "/", here)), link(fmt.Sprint("m", i), fmt.Sprint("l", i, "/", here)), dir(fmt.Sprint("m", i, "/", here)))
	}
	for _, tt := range []struct {
		name, want string
		steps      []step
	}{
		{"outside", `entry "../x": not a path beneath the root`, []step{file("../x", "")}},
		{"outside, inside", `entry "a/../../x": not a path`, []step{file("a/../../x", "")}},
		{"empty", `entry "": not a path`, []step{file("", "")}},
		{"null", `entry "a\x00b": not a path`, []step{file("a\x00b", "")}},
		{"name", `entry "nnn`, []step{file(strings.Repeat("n", 256), "")}},
		{"name's rule", `larger than allowed: a name of 256 bytes`, []step{file(strings.Repeat("n", 256), "")}},
		{"path", `larger than allowed: a path of 4098 bytes`, []step{file(strings.Repeat("n/", 2049), "")}},
		{"twice", `entry "a": a second entry of that name in one layer`, []step{file("a", ""), file("a", "")}},
		{"directory over file", `a second entry`, []step{file("a", ""), dir("a")}},
		{"file over directory", `a second entry`, []step{file("a/b", ""), file("a", "")}},
		{"beneath a file", `entry "a/b": "a" on its path is no directory`, []step{file("a", ""), file("a/b", "")}},
		{"links in a circle", `entry "a/x": larger than allowed: more than 40 symbolic links on its path`, []step{link("a", "b"), link("b", "a"), file("a/x", "")}},
		{"deep", "directories are more than 2048 deep", deep},
		{"root is a file", "the root is a directory", []step{file(".", "")}},
		{"hard link to nothing", `entry "a": hard link to "b": no such file in the image before it`, []step{hard("a", "b")}},
		{"hard link outside", `hard link to "../b": not a path`, []step{hard("a", "../b")}},
		{"hard link to a directory", `it is a directory`, []step{dir("b"), hard("a", "b")}},
		{"hard link to itself", `a link to itself`, []step{file("b", ""), hard("b", "b")}},
		{"hard link over a file", `a second entry`, []step{file("b", ""), file("a", ""), hard("a", "b")}},
		{"whiteout outside", `entry "../a": not a path`, []step{hide("../a")}},
		{"no type", "is of no type", []step{add("a", 0o644, "")}},
		{"target", "a link to 4096 bytes", []step{link("a", strings.Repeat("t", 4096))}},
		{"no target", "a link to 0 bytes", []step{link("a", "")}},
		{"device", "device 4096:0", []step{func(w *Writer) error { return w.Add(Entry{Name: "a", Mode: typeChar, Major: 4096}, nil) }}},
		{"short", `entry "a": its content: unexpected EOF`, []step{func(w *Writer) error {
			return w.Add(Entry{Name: "a", Mode: typeRegular, Size: 5000}, strings.NewReader("four"))
		}}},
		{"attribute", `attribute "btrfs.x": EROFS has user.`, []step{xattrs1("a", map[string]string{"btrfs.x": ""})}},
		{"attribute without a name", `attribute "user."`, []step{xattrs1("a", map[string]string{"user.": ""})}},
		{"large attribute", "65536 bytes: larger than allowed", []step{xattrs1("a", map[string]string{"user.x": strings.Repeat("x", 65536)})}},
		{"many attributes", "an inode has", []step{xattrs1("a", large(5))}},
		{"entries", "more than 20 entries", []step{dir("a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u")}},
		{"bytes", `entry "b": larger than allowed: 1 bytes, and all files together may have 5000`, []step{file("a", strings.Repeat("x", 5000)), file("b", "x")}},
		{"bytes of attributes", "bytes of extended attributes", []step{xattrs1("a", large(4)), xattrs1("b", large(4)), xattrs1("c", large(4))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Options{Limits: Limits{Entries: 20, Bytes: 5000, XattrBytes: 600_000}}
			if tt.name == "deep" {
				o = Options{}
			}
			if _, err := write(o, tt.steps...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func xattrs1(name string, all map[string]string) step {
	return func(w *Writer) error {
		return w.Add(Entry{Name: name, Mode: typeRegular, Xattrs: all}, strings.NewReader(""))
	}
}

func large(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprint("user.", i)] = strings.Repeat("x", 60_000)
	}
	return all
}

// Every size around the bounds of a block, with attributes of sizes that move the
// end of the data from the inode to a block of its own.
func TestContent(t *testing.T) {
	var steps []step
	want := map[string]string{}
	for _, size := range []int{0, 1, 3000, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 8193, 70_000, dataBuffer, dataBuffer + 1, 3*dataBuffer + 4095} {
		for _, value := range []int{-1, 0, 50, 3900, 4096, 60_000} {
			name := fmt.Sprintf("f/%d.%d", size, value)
			content := pattern(size)
			want[name] = content
			e := Entry{Name: name, Mode: typeRegular | 0o4751, UID: 1 << 20, GID: 70_000, Mtime: time.Unix(-5, 999_999_999), Size: int64(size)}
			if value >= 0 {
				e.Xattrs = map[string]string{"user.x": strings.Repeat("v", value), "security.capability": name}
			}
			steps = append(steps, func(w *Writer) error { return w.Add(e, strings.NewReader(content)) })
		}
	}
	all := image(t, steps...)
	for name, content := range want {
		f := all[name]
		if f.data != content || f.mode != typeRegular|0o4751 || f.uid != 1<<20 || f.gid != 70_000 || f.mtime != -5 || f.nanosecond != 999_999_999 || f.links != 1 {
			t.Errorf("%s: %v", name, f)
		}
		var size, value int
		if _, err := fmt.Sscanf(name, "f/%d.%d", &size, &value); err != nil {
			t.Fatal(err)
		}
		if value >= 0 && (f.xattrs["user.x"] != strings.Repeat("v", value) || f.xattrs["security.capability"] != name) || value < 0 && f.xattrs != nil {
			t.Errorf("%s: %v", name, f)
		}
	}
}

// pattern is text in which no block is like another.
func pattern(size int) string {
	b := make([]byte, 0, size+16)
	for i := 0; len(b) < size; i++ {
		b = fmt.Appendf(b, "%d,", i)
	}
	return string(b[:size])
}

// Zeros take no room in the host's file, and are zeros all the same.
func TestHoles(t *testing.T) {
	content := pattern(5000) + strings.Repeat("\x00", 5<<20) + "x" + strings.Repeat("\x00", 1<<20)
	m := &sparse{}
	w := NewWriter(m, Options{})
	if err := file("a", content)(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := read(m.b)
	if err != nil {
		t.Fatal(err)
	}
	if all["a"].data != content {
		t.Error("the content is another")
	}
	if m.written > 512<<10 {
		t.Errorf("%d bytes were written", m.written)
	}
}

// sparse counts the written bytes.
type sparse struct {
	memory
	written int
}

func (s *sparse) WriteAt(b []byte, at int64) (int, error) {
	s.written += len(b)
	return s.memory.WriteAt(b, at)
}

// A directory of many blocks, and names of every length.
func TestLargeDirectory(t *testing.T) {
	var steps []step
	var want []string
	for i := range 5000 {
		name := fmt.Sprintf("%d%s", i, strings.Repeat("n", i%250))
		steps = append(steps, file("d/"+name, ""))
		want = append(want, "d/"+name)
	}
	slices.Sort(want)
	if got := names(image(t, steps...)); !slices.Equal(got[1:], want) {
		t.Errorf("got %d names, want %d", len(got)-1, len(want))
	}
	// Directories whose lists end around the end of a block.
	for n := 1; n < 30; n++ {
		steps = nil
		for i := range 270 + n {
			steps = append(steps, dir(fmt.Sprintf("%03d", i)))
		}
		image(t, steps...)
	}
}

func TestHardLinks(t *testing.T) {
	all := image(t, file("a", "x"), hard("b", "a"), hard("d/c", "b"), link("l", "a"), hard("m", "l"), file("gone", "y"), hard("stays", "gone"), layer, hide("gone"), hide("d"))
	for name, links := range map[string]uint32{"a": 2, "b": 2, "l": 2, "m": 2, "stays": 1} {
		if f := all[name]; f.links != links {
			t.Errorf("%s: %v, want %d links", name, f, links)
		}
	}
	if all["a"].nid != all["b"].nid || all["m"].data != "a" {
		t.Errorf("a is %v, b %v, m %v", all["a"], all["b"], all["m"])
	}
}

func TestAttributes(t *testing.T) {
	everywhere := map[string]string{"security.selinux": "system_u:object_r:usr_t:s0\x00", "system.posix_acl_access": "\x02\x00\x00\x00", "trusted.x": ""}
	var steps []step
	for i := range 500 {
		e := Entry{Name: fmt.Sprint("d", i), Mode: typeDir | 0o755, Xattrs: everywhere}
		steps = append(steps, func(w *Writer) error { return w.Add(e, nil) })
	}
	root := maps.Clone(everywhere)
	maps.Copy(root, large(4))
	steps = append(steps, func(w *Writer) error { return w.Add(Entry{Name: ".", Mode: typeDir | 0o755, Xattrs: root}, nil) })
	b, err := write(Options{}, steps...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "system_u:object_r:usr_t:s0"); n > 2 {
		t.Errorf("the same attribute stands %d times in the image", n)
	}
	for name, f := range all {
		want := everywhere
		if name == "" {
			want = root
		}
		if !maps.Equal(f.xattrs, want) {
			t.Errorf("%q: %v", name, f)
		}
	}
}

// A small image with one of everything, byte for byte.
func TestGolden(t *testing.T) {
	const want = "278528 c0633216b2f12df4f3baa96c63437eeda4052b4507ff35d4acc5905980fdd70b"
	steps := []step{
		dir("."), file("empty", ""), file("small", "small\n"), file("dir/large", pattern(10_000)), link("link", "dir/large"), hard("hard", "small"),
		add("fifo", typeFifo|0o600, ""), add("socket", typeSocket|0o755, ""),
		func(w *Writer) error {
			return w.Add(Entry{Name: "null", Mode: typeChar | 0o666, Major: 1, Minor: 3}, nil)
		},
		func(w *Writer) error {
			return w.Add(Entry{Name: "disk", Mode: typeBlock | 0o660, Major: 259, Minor: 1 << 10}, nil)
		},
		xattrs1("attributes", map[string]string{"user.a": "1", "user.b": "2"}), xattrs1("again", map[string]string{"user.a": "1"}),
	}
	var sums []string
	for range 5 {
		b, err := write(Options{UUID: [16]byte{1, 2, 3}, Volume: "golden"}, steps...)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, fmt.Sprintf("%d %x", len(b), sha256.Sum256(b)))
	}
	if sums = slices.Compact(sums); len(sums) != 1 || sums[0] != want {
		t.Errorf("got %q, want %q", sums, want)
	}
}
