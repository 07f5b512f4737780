package options

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"memory_mib = 64\ncpus = 2": "",
		"modules = [\"bridge\"]":    "",
		"memory_mib = 1":            "memory_mib 1: want 32",
		"cpus = 0":                  "cpus 0: want 1 to 255",
		"accel = \"xen\"":           `accel "xen"`,
		"memory = 64":               `setting "memory": unknown`,
		"cpus = ":                   "line",
	} {
		name := filepath.Join(t.TempDir(), "shim.toml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Read(name)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a named file that is missing was read")
	}
}

func TestAnnotate(t *testing.T) {
	o := Default()
	if err := o.Annotate(map[string]string{"io.agentd.cpus": "3", "io.agentd.kernel": "k", "other": "x"}); err != nil || o.CPUs != 3 || o.Kernel != "k" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, c := range []struct{ name, value, rule string }{
		{"io.agentd.cpus", "many", "want a number"},
		{"io.agentd.cpus", "", "want a number"},
		{"io.agentd.cpus", "99999999999999999999", "want a number"},
		{"io.agentd.memory-mib", "-1", "want 32 to 4194304"},
		{"io.agentd.overhead-mib", "1", "want 64 to 65536"},
		{"io.agentd.accel", "x", "want kvm or tcg"},
		{"io.agentd.memory", "64", "no such setting"},
		{"io.agentd.", "\x00", "no such setting"},
	} {
		o := Default()
		err := o.Annotate(map[string]string{c.name: c.value})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("annotation %s %q", c.name, c.value)) || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%s=%q: %v, want %q", c.name, c.value, err, c.rule)
		}
	}
}
