package oci

import (
	"os"
	"strings"
	"testing"
)

// A layout's links do not lead out of it, and files that are not regular are not
// opened.
func TestLayoutStaysInside(t *testing.T) {
	outside := t.TempDir() + "/manifest"
	if err := os.WriteFile(outside, []byte(`[{"Config":"c"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, prepare := range map[string]func(dir string) error{
		"escapes":            func(dir string) error { return os.Symlink(outside, dir+"/manifest.json") },
		"not a regular file": func(dir string) error { return os.Mkdir(dir+"/manifest.json", 0o700) },
	} {
		dir := t.TempDir()
		if err := prepare(dir); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLayout(root); err == nil || !strings.Contains(err.Error(), what) || NotImage(err) {
			t.Errorf("got %v, want %q", err, what)
		}
		_ = root.Close()
	}
}

// The best variant is taken that machines have, else the one that asks least, and of
// equals the first. Several without a platform need a choice; the same one twice does not.
func TestChoose(t *testing.T) {
	wantAMD64(t)
	digest := func(s string) Digest { return DigestOf([]byte(s)) }
	// index is of descriptors DIGEST=PLATFORM, which a platform may lack.
	index := func(words string) (all []descriptor) {
		for word := range strings.FieldsSeq(words) {
			name, text, ok := strings.Cut(word, "=")
			d := descriptor{Digest: digest(name)}
			if part := append(strings.Split(text, "/"), ""); ok {
				d.Platform = &Platform{OS: part[0], Architecture: part[1], Variant: part[2]}
			}
			all = append(all, d)
		}
		return all
	}
	const variants = "one=linux/amd64 three=linux/amd64/v3 two=linux/amd64/v2 four=linux/amd64/v4 arm=linux/arm64/v8"
	for _, tt := range []struct {
		all     string
		variant string
		level   int
		want    string // A digest's name, or words of an error.
	}{
		{"b=plan9/mips a=linux/amd64", "", 1, "a"},
		{"a", "", 1, "a"},
		{"b=linux/amd64/v2 a=linux/amd64", "", 0, "a"},
		{"a=linux/amd64/v2", "", 1, "a"},
		{"b=linux/amd64/v4 a=linux/amd64/v3", "", 2, "a"},
		{"a=linux/amd64 b=linux/amd64", "", 4, "a"},
		{"a=linux/amd64 b=linux/amd64/v1", "", 4, "a"},
		{"a=linux/amd64/v3 b=linux/amd64/v3", "", 4, "a"},
		{"a=linux/amd64 a", "", 1, "a"},
		{"b a=linux/amd64", "", 1, "a"},
		{"b=linux/amd64/new a=linux/amd64", "", 4, "a"},
		{"a b", "", 1, "2 images"},
		{"b=plan9/mips", "", 1, "it has plan9/mips"},
		{variants, "", 1, "one"},
		{variants, "", 2, "two"},
		{variants, "", 3, "three"},
		{variants, "", 4, "four"},
		{variants, "v1", 4, "one"},
		{variants, "v2", 3, "two"},
		{"a=linux/amd64 b=linux/amd64/v3", "v2", 3, "a"},
		{"a=linux/amd64/v3", "v2", 3, "no image for linux/amd64/v2 in the index; it has linux/amd64/v3"},
	} {
		w := Want{Level: tt.level}
		if tt.variant != "" {
			w.Platform = Platform{OS: "linux", Architecture: "amd64", Variant: tt.variant}
		}
		d, err := w.choose(index(tt.all))
		if isError := strings.Contains(tt.want, " "); isError && (err == nil || !strings.Contains(err.Error(), tt.want)) || !isError && (err != nil || d.Digest != digest(tt.want)) {
			t.Errorf("%s for %q and v%d: got %v, %v, want %q", tt.all, tt.variant, tt.level, d, err, tt.want)
		}
	}
}

// wantAMD64 makes a test use amd64's variants on any host.
func wantAMD64(t *testing.T) {
	t.Helper()
	before := native
	native = "amd64"
	t.Cleanup(func() { native = before })
}

func TestParsePlatform(t *testing.T) {
	wantAMD64(t)
	for text, want := range map[string]string{
		"linux/amd64":       "linux/amd64",
		"amd64":             "linux/amd64",
		"Linux/x86_64":      "linux/amd64",
		"linux/amd64/v1":    "linux/amd64/v1",
		"linux/amd64/v3":    "linux/amd64/v3",
		"linux/amd64/v4":    `platform "linux/amd64/v4": the machines of this host have v3 at most; possible: linux/amd64, linux/amd64/v1, linux/amd64/v2, linux/amd64/v3`,
		"linux/amd64/v5":    "no variant of that name",
		"linux/amd64/v02":   "no variant of that name",
		"linux/arm64":       "linux/arm64",
		"arm64":             "linux/arm64",
		"linux/aarch64/v8":  "linux/arm64/v8",
		"linux/arm64/v9":    `platform "linux/arm64/v9": no variant of that name; possible: linux/amd64, linux/amd64/v1, linux/amd64/v2, linux/amd64/v3, linux/arm64, linux/arm64/v8`,
		"linux/arm/v7":      "no machine has such a processor",
		"windows/amd64":     "machines run linux",
		"":                  "want OS/ARCHITECTURE[/VARIANT]",
		"linux/":            "want OS/ARCHITECTURE[/VARIANT]",
		"linux/amd64/v2/v3": "want OS/ARCHITECTURE[/VARIANT]",
	} {
		p, err := ParsePlatform(text, func(a string) int { return map[string]int{"amd64": 3, "arm64": 1}[a] })
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// A document that would take much more memory than its bytes is refused before it is
// decoded; commas in strings are no values.
func TestValues(t *testing.T) {
	many := "[" + strings.Repeat("{},", maxValues+1) + "{}]"
	if _, err := decode[[]saved]([]byte(many), "list"); err == nil || !strings.Contains(err.Error(), "list: 262145 values, want at most 262144") {
		t.Errorf("got %v", err)
	}
	text := `{"a,\\":"` + strings.Repeat(`,\"`, 10) + `","b":[1,2]}`
	if n := separators([]byte(text)); n != 2 {
		t.Errorf("%d separators in %s", n, text)
	}
}

// A command that is a string is its only word.
func TestWords(t *testing.T) {
	c, err := decode[configuration]([]byte(`{"config":{"Cmd":"a b","Entrypoint":["c"]}}`), "configuration")
	if err != nil || len(c.Config.Cmd) != 1 || c.Config.Cmd[0] != "a b" || len(c.Config.Entrypoint) != 1 {
		t.Errorf("got %+v, %v", c.Config, err)
	}
}
