package vmm

import (
	"strings"
	"testing"
)

func TestQuoteWord(t *testing.T) {
	for _, c := range []struct{ word, want string }{
		{"rw", "rw"},
		{"root=/dev/root", "root=/dev/root"},
		{"A=", "A="},
		{"A=a b", `A="a b"`},
		{"A= ", `A=" "`},
		{"A=b=c d", `A="b=c d"`},
		{"a b", `"a b"`},
		{`A=\`, `A=\`},
		{"A=a -- b", `A="a -- b"`},
	} {
		if got := quoteWord(c.word); got != c.want {
			t.Errorf("quoteWord(%q) = %s, want %s", c.word, got, c.want)
		}
	}
}

// nextArg models the kernel's reader of its command line: white space ends a word
// outside of quotes; one pair of quotes around the word or its value is removed.
func nextArg(line string) (word, rest string) {
	line = strings.TrimLeft(line, " ")
	whole := strings.HasPrefix(line, `"`)
	line = strings.TrimPrefix(line, `"`)
	inside, end := whole, len(line)
	for i := range len(line) {
		if line[i] == ' ' && !inside {
			end = i
			break
		}
		if line[i] == '"' {
			inside = !inside
		}
	}
	word, rest = line[:end], line[end:]
	if key, value, ok := strings.Cut(word, "="); ok && key != "" && strings.HasPrefix(value, `"`) {
		return key + "=" + strings.TrimSuffix(value[1:], `"`), rest
	}
	if whole {
		word = strings.TrimSuffix(word, `"`)
	}
	return word, rest
}

// An emulated guest with shares clears its pages, and a word of the user's comes
// after ours: the kernel takes the last.
func TestClearAtAllocation(t *testing.T) {
	share := []Share{{Tag: "t", Dir: "/d"}}
	for _, tt := range []struct {
		m    Machine
		want bool
	}{
		{Machine{Accel: TCG, Shares: share}, true},
		{Machine{Accel: TCG}, false},
		{Machine{Accel: KVM, Shares: share}, false},
	} {
		tt.m.Cmdline = []string{"init_on_alloc=0"}
		line := tt.m.cmdline()
		ours, theirs := strings.Index(line, clearAtAllocation), strings.Index(line, "init_on_alloc=0")
		if (ours >= 0) != tt.want || theirs < ours {
			t.Errorf("%v with %d shares: %q", tt.m.Accel, len(tt.m.Shares), line)
		}
	}
}

func FuzzCmdline(f *testing.F) {
	for _, w := range []string{"rw", "A=a b", "a b", "A=", "A=b=c d", " ", "A= x ", `A="`, "=", "-- x"} {
		f.Add(w, "B=c d")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		m := Machine{Kernel: "/k", CPUs: 1, MemoryMiB: 64, ACPI: true, Cmdline: []string{first, second}}
		if m.Check() != nil {
			return // A refused word is never written.
		}
		var got []string
		for rest := m.cmdline(); strings.TrimLeft(rest, " ") != ""; {
			var word string
			word, rest = nextArg(rest)
			got = append(got, word)
		}
		want := append(m.baseWords(), first, second)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("the kernel reads %q, want %q", got, want)
		}
	})
}
