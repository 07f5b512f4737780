package machines_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

func TestVolumes(t *testing.T) {
	s, err := machines.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if all, err := s.Volumes(); err != nil || len(all) > 0 {
		t.Errorf("a new store has %v, %v", all, err)
	}
	v, made, err := s.MakeVolume("db", map[string]string{"k": "v"})
	if err != nil || !made || v.Path != s.VolumePath("db") {
		t.Fatalf("%+v, %v, %v", v, made, err)
	}
	if err := os.WriteFile(filepath.Join(v.Path, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, made, err := s.MakeVolume("db", nil); err != nil || made || again.Labels["k"] != "v" {
		t.Errorf("again: %+v, %v, %v", again, made, err)
	}
	if name, ok := s.VolumeOf(v.Path); name != "db" || !ok {
		t.Errorf("%s is volume %q, %v", v.Path, name, ok)
	}
	for _, path := range []string{v.Path + "/file", filepath.Dir(v.Path), "/data", "data"} {
		if name, ok := s.VolumeOf(path); ok {
			t.Errorf("%s is volume %q", path, name)
		}
	}
	m, err := s.Create(machines.Record{Config: sandbox.Config{Mounts: []sandbox.Mount{{Source: v.Path, Target: "/db"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveVolume("db"); err == nil || !strings.Contains(err.Error(), m.Name()) {
		t.Errorf("a used one goes: %v", err)
	}
	if all, err := s.Volumes(); err != nil || len(all) != 1 || !slices.Equal(all[0].Used, []string{m.Name()}) {
		t.Errorf("%+v, %v", all, err)
	}
	if err := errors.Join(m.Remove(t.Context()), s.RemoveVolume("db")); err != nil {
		t.Error(err)
	}
	if _, err := s.Volume("db"); !errors.Is(err, machines.ErrNoVolume) {
		t.Errorf("it is still there: %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "-a", "../db", strings.Repeat("a", 129)} {
		if _, _, err := s.MakeVolume(name, nil); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir(), "volumes", ".*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestParseMountSpec(t *testing.T) {
	forms(t, machines.ParseMountSpec, map[string]string{
		"type=bind,source=/src,target=/work":                  "{/src /work false false}",
		"type=bind,src=/src,dst=/work,ro":                     "{/src /work true false}",
		"type=bind,src=/src,destination=/work,readonly=false": "{/src /work false false}",
		`type=bind,"src=/a,b",dst=/work`:                      "{/a,b /work false false}",
		"source=db,target=/db":                                "db{ /db false false}",
		"type=volume,src=db,dst=/db,volume-nocopy,readonly=1": "db{ /db true false}",
		"type=bind,src=/s,dst=/d,bind-propagation=rprivate":   "{/s /d false false}",
		"type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770": "/t 64 1770 false",
		"type=tmpfs,destination=/t":                           "/t 0 0 false",
		"type=bind,src=/s,dst=/d,consistency=cached":          "{/s /d false false}",
		"":                                                "",
		"type=bind,source=/src":                           "",
		"type=bind,target=/work":                          "",
		"type=bind,src=,dst=/work":                        "",
		"type=bind,src=/s,dst=work":                       "",
		"type=npipe,src=/s,dst=/d":                        "",
		"type=tmpfs,src=/s,dst=/d":                        "",
		"type=bind,src=/s,dst=/d,tmpfs-size=1m":           "",
		"type=tmpfs,dst=/d,tmpfs-size=10":                 "",
		"type=tmpfs,dst=/d,tmpfs-mode=9":                  "",
		"type=volume,dst=/d":                              "",
		"type=volume,src=/dir,dst=/d":                     "",
		"type=volume,src=db,dst=/d,volume-subpath=x":      "",
		"type=volume,src=db,dst=/d,volume-driver=nfs":     "",
		"type=bind,src=/s,dst=/d,bind-propagation=shared": "",
		"type=bind,src=/s,dst=/d,readonly=maybe":          "",
		"type=bind,src=/s,dst=/d,dst=/e":                  "",
		"type=bind,src=/s,dst=/d,magic":                   "",
	}, func(m machines.MountSpec) string {
		if m.Tmpfs != nil {
			return fmt.Sprintf("%s %d %o %t", m.Tmpfs.Target, m.Tmpfs.SizeMiB, m.Tmpfs.Mode, m.Tmpfs.ReadOnly)
		}
		if m.Bind == nil {
			return "nothing"
		}
		return m.Volume + fmt.Sprint(*m.Bind)
	})
}

// A volume is filled once, wholly or not at all.
func TestFillVolume(t *testing.T) {
	s, err := machines.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := s.MakeVolume("db", nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(failure error) func(string) error {
		return func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), failure)
		}
	}
	broken := errors.New("broken")
	if filled, err := s.FillVolume("db", write(broken)); filled || !errors.Is(err, broken) {
		t.Errorf("half filled: %v, %v", filled, err)
	}
	if err := os.Mkdir(filepath.Join(filepath.Dir(v.Path), ".fill-1"), 0o700); err != nil { // A killed program left it.
		t.Fatal(err)
	}
	raced := func(dir string) error { // Somebody writes there meanwhile.
		return errors.Join(write(nil)(dir), os.WriteFile(filepath.Join(v.Path, "other"), nil, 0o600))
	}
	if filled, err := s.FillVolume("db", raced); filled || err != nil {
		t.Errorf("files were replaced: %v, %v", filled, err)
	}
	if err := os.Remove(filepath.Join(v.Path, "other")); err != nil {
		t.Fatal(err)
	}
	if filled, err := s.FillVolume("db", write(nil)); !filled || err != nil {
		t.Errorf("an empty one: %v, %v", filled, err)
	}
	if filled, err := s.FillVolume("db", write(broken)); filled || err != nil {
		t.Errorf("a full one: %v, %v", filled, err)
	}
	if err := os.Remove(filepath.Join(v.Path, "file")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(machines.Record{Config: sandbox.Config{Mounts: []sandbox.Mount{{Source: v.Path, Target: "/db"}}}}); err != nil {
		t.Fatal(err)
	}
	if filled, err := s.FillVolume("db", write(nil)); filled || err != nil {
		t.Errorf("a used one: %v, %v", filled, err)
	}
	entries, err := os.ReadDir(filepath.Dir(v.Path))
	if err != nil || len(entries) != 3 { // Its files, its record and the lock.
		t.Errorf("left %v, %v", entries, err)
	}
	if _, err := s.FillVolume("none", write(nil)); !errors.Is(err, machines.ErrNoVolume) {
		t.Errorf("no volume: %v", err)
	}
}
