package vmm

import (
	"os/exec"
	"strings"
	"testing"
)

// TestScript checks the script for users: all words are quoted, and no descriptor is
// inherited.
func TestScript(t *testing.T) {
	host := tools{
		qemu: "qemu-system-x86_64",
		Sharing: Sharing{
			daemon: daemon{path: "/usr/lib/qemu/virtiofsd", dialect: dialectC},
			host:   hostFacts{uid: 1000, self: "/usr/bin/agentctl", rootIsMount: true},
		},
	}
	m := machines()["full"]
	m.Shares = []Share{{Tag: "rootfs", Dir: t.TempDir()}}
	m.Affinity = []int{0, 2}
	p, err := newPlan(m, host, Options{})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.sh", strings.ReplaceAll(p.hand, m.Shares[0].Dir, "/srv/root"))
}

func TestQuoteShell(t *testing.T) {
	words := []string{
		"", "a", "a b", "it's", `"$HOME"`, "`id`", "a\nb", "*", "~", "#", `\`, "'", "a;b", "é", "-n", "{a,b}", "!x",
		handDir, handDir + "/x.sock", "path=" + handDir + "/x,y", "it's " + handDir,
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "d='/made here'; printf '%s\\0' "+quoteWords(words)).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(strings.Join(words, "\x01")+"\x01", handDir, "/made here")
	if got := strings.ReplaceAll(string(out), "\x00", "\x01"); got != want {
		t.Errorf("sh reads %q\nwant     %q", got, want)
	}
}

func TestUndoRunsInReverseAndOnce(t *testing.T) {
	var u undo
	var got strings.Builder
	for _, s := range []string{"a", "b", "c"} {
		u.push(func() { got.WriteString(s) })
	}
	u.run()
	u.run()
	u.push(func() { got.WriteString("kept") })
	u.release()
	u.run()
	if got.String() != "cba" {
		t.Errorf("undone: %q, want cba", got.String())
	}
}
