package sandbox_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/sandbox"
)

// attempts are the outputs of testdata/owner in a shared directory, without and with
// SetID.
const attempts = `mknod: EPERM
whiteout: <nil>
fifo: <nil>
create: EPERM
mknod file: EPERM
plain: <nil>
suid: EPERM
sgid: EPERM
sticky: <nil>
overwrite: <nil>
chown: <nil>
label: <nil>
user: <nil>
forged: ENOTSUP
trusted: <nil>
other: ENOTSUP
capability: EPERM
list: security.selinux trusted.overlay.opaque user.a
`

var withSetID = strings.NewReplacer("create: EPERM", "create: <nil>", "file: EPERM", "file: <nil>", "suid: EPERM", "suid: <nil>", "sgid: EPERM", "sgid: <nil>").Replace(attempts)

// In a directory of the user a guest leaves no device, no set-user-ID program and no
// attribute that this host's kernel acts upon.
func TestShareRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("as an ordinary user the kernel refuses half of it already")
	}
	plain, asked := ownersDir(t), ownersDir(t)
	m := start(t, sandbox.Config{
		Kernel: kernels(t)[0],
		Shares: []sandbox.Share{{Tag: "plain", Dir: plain}},
		Mounts: []sandbox.Mount{{Source: plain, Target: "/plain"}, {Source: asked, Target: "/asked", SetID: true}},
	})
	if got := say(t, m, "/plain/owner /plain"); got != attempts {
		t.Errorf("in a mount: %s", got)
	}
	if got := say(t, m, "/asked/owner /asked"); got != withSetID {
		t.Errorf("in a mount with SetID: %s", got)
	}
	say(t, m, "rm /plain/plain /plain/fifo /plain/whiteout; mkdir /tmp/m; mount -t virtiofs plain /tmp/m")
	if got := say(t, m, "/tmp/m/owner /tmp/m"); got != attempts {
		t.Errorf("in a share: %s", got)
	}
	checkNoRights(t, plain)
}

// ownersDir has the program, and a set-user-ID program of the host's.
func ownersDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	guestProgram(t, dir, "owner")
	text(t, dir+"/of the host", "program of the host")
	if err := os.Chmod(dir+"/of the host", 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// guestProgram builds a program of testdata into a directory.
func guestProgram(t *testing.T, dir, name string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, name), "./testdata/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func checkNoRights(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
			t.Errorf("%s: %v", e.Name(), info.Mode())
		}
	}
	buf := make([]byte, 1024)
	n, err := unix.Llistxattr(filepath.Join(dir, "plain"), buf)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	if want := "user.a user.virtiofs.security.selinux user.virtiofs.trusted.overlay.opaque"; strings.Join(names, " ") != want {
		t.Errorf("attributes on the host are %q, want %q", names, want)
	}
}
