package life

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
)

// The answer has the form that the caller asks for.
func TestStartTakesOldAndNewWays(t *testing.T) {
	message, err := proto.Marshal(&bootapi.BootstrapParams{InstanceID: "c1", Namespace: "k8s.io", ContainerdTtrpcAddress: "/t"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := proto.Marshal(&bootapi.BootstrapParams{InstanceID: "c2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, input, version string
		want                 way
	}{
		{"nothing", "", "", byAddress},
		{"runtime options", "\x0a\x03abc", "", byAddress},
		{"a newer containerd", "", "3", byJSON},
		{"parameters", string(message), "3", byMessage},
		{"parameters of another", string(other), "", byAddress},
	} {
		t.Setenv("MAX_SHIM_VERSION", c.version)
		a := Args{ID: "c1", Namespace: "default", TTRPC: "/old"}
		how, err := a.readParams(strings.NewReader(c.input))
		if err != nil || how != c.want {
			t.Errorf("%s: way %v, %v; want %v", c.name, how, err, c.want)
		}
		if how == byMessage && (a.Namespace != "k8s.io" || a.TTRPC != "/t") {
			t.Errorf("%s: %+v", c.name, a)
		}
		var out bytes.Buffer
		if err := answer(&out, how, "unix:///s"); err != nil || !strings.Contains(out.String(), "unix:///s") {
			t.Errorf("%s: answer %q, %v", c.name, out.String(), err)
		}
	}
	a := Args{ID: "c1"}
	if _, err := a.readParams(io.LimitReader(zeros{}, maxParams+2)); err == nil {
		t.Error("parameters without an end were taken")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestNamesAreNoPaths(t *testing.T) {
	for _, id := range []string{"", "..", "a/b", "-x", "a\n", strings.Repeat("a", 129)} {
		if err := (Args{ID: id, Namespace: "default"}).check(); err == nil || !strings.Contains(err.Error(), "-id") {
			t.Errorf("id %q: %v", id, err)
		}
	}
	for _, group := range []string{"../../x", "a/b", "a\n", strings.Repeat("a", 129)} {
		for _, name := range groups {
			_, err := groupOf(&specs.Spec{Annotations: map[string]string{name: group}}, "c1")
			if err == nil || !strings.Contains(err.Error(), name+" "+strconv.Quote(group)) {
				t.Errorf("%s=%q: %v", name, group, err)
			}
		}
	}
	for group, want := range map[string]string{"": "c1", "p1": "p1"} {
		if got, err := groupOf(&specs.Spec{Annotations: map[string]string{groups[0]: group}}, "c1"); got != want || err != nil {
			t.Errorf("annotation %q: pod %s, %v; want %s", group, got, err, want)
		}
	}
}

// A socket's path has room, whatever the names are.
func TestPodDirIsShort(t *testing.T) {
	dir := podDir(Args{Address: strings.Repeat("a", 200), Namespace: "n"}, strings.Repeat("g", 128))
	if n := len(socket(dir)); n > 107 {
		t.Errorf("%d bytes", n)
	}
	if dir == podDir(Args{Address: "a"}, "g") {
		t.Error("two pods have one directory")
	}
}

// Nothing that is not ours is removed.
func TestRemovePodKeepsWhatItDoesNotKnow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pod")
	for _, d := range []string{"machine/share", "root", "volumes/3"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := removePod(dir); err == nil {
		t.Error("a directory with content was removed")
	}
	if err := os.Remove(filepath.Join(dir, "volumes/3")); err != nil {
		t.Fatal(err)
	}
	if err := removePod(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the directory is left")
	}
}

// A number that another process has by now is left alone.
func TestKillKnowsItsShim(t *testing.T) {
	started, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := (record{PID: os.Getpid(), Started: started + 1}).kill(); err != nil {
		t.Error(err)
	}
}
