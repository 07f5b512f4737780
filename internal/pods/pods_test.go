package pods

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// place makes a directory of pods: those of the records, in a short path for sockets.
func place(t *testing.T, records map[string]string) string {
	t.Helper()
	base, err := os.MkdirTemp("/tmp", "pods-") //nolint:usetesting // The path of a socket is short.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	t.Setenv(RunVariable, base)
	for name, record := range records {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(base, name, "agentd-pod.json"), record)
	}
	return base
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if text == "" {
		return
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var records = map[string]string{
	"1": `{"ID":"abc1","Namespace":"k8s.io","PID":7,"Created":"2026-01-02T03:04:06Z","Cgroups":["/x"]}`,
	"2": `{"ID":"abc2","Namespace":"k8s.io","Created":"2026-01-02T03:04:05Z"}`,
	"3": `{"ID":"abc1","Namespace":"default","Created":"2026-01-02T03:04:07Z"}`,
	"4": `{"ID":"abc","Namespace":"default","Created":"2026-01-02T03:04:08Z"}`,
	"5": "", // It is made this moment.
}

func TestList(t *testing.T) {
	place(t, records)
	all, err := List()
	if err != nil || len(all) != 4 || all[0].ID != "abc2" || all[1].PID != 7 || all[1].Name() != "pod/abc1" {
		t.Errorf("%+v, %v", all, err)
	}
	t.Setenv(RunVariable, "/nonexistent")
	if all, err := List(); err != nil || all != nil {
		t.Errorf("without a directory: %+v, %v", all, err)
	}
}

// One unreadable record does not hide the others.
func TestListBesideABadRecord(t *testing.T) {
	for _, bad := range []string{"{", `{"ID":7}`, `{"ID":"` + strings.Repeat("a", maxRecord) + `"}`} {
		place(t, map[string]string{"1": records["1"], "2": bad})
		all, err := List()
		if len(all) != 1 || err == nil || !strings.Contains(err.Error(), "/2/agentd-pod.json") {
			t.Errorf("%.20s: %+v, %v", bad, all, err)
		}
		if _, err := Get("pod/abc1"); err != nil {
			t.Error(err)
		}
	}
}

func TestGet(t *testing.T) {
	place(t, records)
	for name, want := range map[string]string{
		"pod/abc":          "default/abc", // Whole, though others begin with it.
		"pod/abc2":         "k8s.io/abc2",
		"pod/default/abc1": "default/abc1",
		"pod/k8s.io/abc1":  "k8s.io/abc1",
		"pod/k8s.io/abc":   "it can be each of pod/k8s.io/abc2, pod/k8s.io/abc1",
		"pod/ab":           "it can be each of",
		"pod/abc1":         "it can be each of pod/k8s.io/abc1, pod/default/abc1",
		"pod/x":            "not found",
		"pod/":             "not found",
		"pod/default/":     "not found",
		"pod/../abc":       "not found",
	} {
		p, err := Get(name)
		if got := p.Namespace + "/" + p.ID; err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	base := place(t, map[string]string{"1": records["1"]})
	p, err := Get("pod/abc1")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); !errors.Is(err, ErrDead) {
		t.Errorf("without a shim: %v", err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(base, "1", "shim.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := p.Check(); !errors.Is(err, ErrStarting) {
		t.Errorf("without a machine: %v", err)
	}
	put(t, p.Socket(), "x")
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

func TestCopyConsole(t *testing.T) {
	base := place(t, map[string]string{"1": records["1"]})
	p, err := Get("pod/abc1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "booted\n"} {
		put(t, filepath.Join(base, "1", "console"), want)
		var b bytes.Buffer
		if err := p.CopyConsole(&b); err != nil || b.String() != want {
			t.Errorf("%q, %v; want %q", b.String(), err, want)
		}
	}
}
