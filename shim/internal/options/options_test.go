package options

import (
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
	for name, value := range map[string]string{"io.agentd.cpus": "many", "io.agentd.memory-mib": "-1", "io.agentd.accel": "x"} {
		o := Default()
		if err := o.Annotate(map[string]string{name: value}); err == nil || !strings.Contains(err.Error(), value) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}
