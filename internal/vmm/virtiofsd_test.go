package vmm

import (
	"errors"
	"strings"
	"testing"
)

func TestDaemonCommand(t *testing.T) {
	noMap := errors.New("no ids")
	c := daemon{path: "vfs", dialect: dialectC}
	rust := daemon{path: "vfs", dialect: dialectRust, readOnly: true}
	oldRust := daemon{path: "vfs", dialect: dialectRust}
	root, chroot := hostFacts{rootIsMount: true}, hostFacts{}
	user, bare := hostFacts{uid: 1000, rootIsMount: true}, hostFacts{uid: 1000, rootIsMount: true, idMap: noMap}
	const (
		cWords    = "vfs --fd=3 -f -o source=/d -o cache=auto -o sandbox=%s -o log_level=warn"
		rustWords = "vfs --fd=3 --shared-dir /d --sandbox %s --cache auto"
		enterUser = "unshare --map-root-user --map-auto "
		bindRO    = `--mount sh -c mount --bind -o ro,nosuid -- "$0" "$0" && exec "$@" /d `
	)
	in := func(words, box string) string { return strings.Replace(words, "%s", box, 1) }
	for _, r := range []struct {
		name     string
		d        daemon
		h        hostFacts
		readOnly bool
		want     string // "" for an error
	}{
		{"c, root", c, root, false, in(cWords, "namespace")},
		{"c, root in a chroot", c, chroot, false, in(cWords, "chroot")},
		{"c, user", c, user, false, enterUser + in(cWords, "namespace")},
		{"c, user without ids", c, bare, false, ""},
		{"c, root, read-only", c, root, true, "unshare " + bindRO + in(cWords, "namespace")},
		{"c, chroot, read-only", c, chroot, true, ""},
		{"c, user, read-only", c, user, true, enterUser + bindRO + in(cWords, "namespace")},
		{"rust, root", rust, root, false, in(rustWords, "namespace")},
		{"rust, root in a chroot", rust, chroot, false, in(rustWords, "chroot")},
		{"rust, user", rust, user, false, enterUser + in(rustWords, "namespace")},
		{"rust, user without ids", rust, bare, false, in(rustWords, "none")},
		{"rust, chroot, read-only", rust, chroot, true, in(rustWords, "chroot") + " --readonly"},
		{"rust, without ids, read-only", rust, bare, true, in(rustWords, "none") + " --readonly"},
		{"old rust, root, read-only", oldRust, root, true, "unshare " + bindRO + in(rustWords, "namespace")},
		{"old rust, without ids, read-only", oldRust, bare, true, ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			words, err := r.d.command(r.h, shareRun{
				share: Share{Tag: "t", Dir: "/d", ReadOnly: r.readOnly, Private: true}, listen: "--fd=3", locked: []string{"nosuid"},
			})
			if got := strings.Join(words, " "); got != r.want || (err == nil) != (r.want != "") {
				t.Errorf("got %q, %v\nwant %q", got, err, r.want)
			}
		})
	}
}

func TestSteadyShare(t *testing.T) {
	for _, d := range []daemon{{path: "vfs", dialect: dialectC}, {path: "vfs", dialect: dialectRust}} {
		for steady, want := range map[bool]string{true: "always", false: "auto"} {
			words, err := d.command(hostFacts{rootIsMount: true}, shareRun{share: Share{Dir: "/d", Steady: steady}})
			got := strings.NewReplacer("=", " ").Replace(strings.Join(words, " "))
			if err != nil || !strings.Contains(got, "cache "+want) {
				t.Errorf("steady %t: %q, %v", steady, words, err)
			}
		}
	}
}

// What a guest may leave in a directory that users of the host come by.
func TestShareRights(t *testing.T) {
	c, rust := daemon{path: "vfs", dialect: dialectC}, daemon{path: "vfs", dialect: dialectRust, readOnly: true}
	root, user := hostFacts{self: "/bin/me", rootIsMount: true}, hostFacts{self: "/bin/me", uid: 1000, rootIsMount: true}
	const cMap, rustMap = " -o xattrmap=" + attributeMap, " --xattr --xattrmap " + attributeMap
	for _, tt := range []struct {
		name string
		d    daemon
		h    hostFacts
		s    Share
		has  string
	}{
		{"c", c, root, Share{}, "/bin/me " + guardWord + " vfs "},
		{"c, rights", c, root, Share{}, " -o modcaps=-mknod:-setfcap:-fsetid" + cMap},
		{"rust", rust, root, Share{}, "/bin/me " + guardWord + " vfs "},
		{"rust, rights", rust, root, Share{}, " --modcaps=-mknod:-setfcap:-fsetid" + rustMap},
		{"behind unshare", c, user, Share{}, "unshare --map-root-user --map-auto /bin/me " + guardWord + " vfs "},
		{"suid, c", c, root, Share{SetID: true}, " -o modcaps=-mknod:-setfcap" + cMap},
		{"suid, rust", rust, root, Share{SetID: true}, " --modcaps=-mknod:-setfcap" + rustMap},
	} {
		t.Run(tt.name, func(t *testing.T) {
			words, err := tt.d.command(tt.h, shareRun{share: tt.s, listen: "--fd=3"})
			if got := strings.Join(words, " "); err != nil || !strings.Contains(got+" ", tt.has) {
				t.Errorf("got %q, %v\nwithout %q", got, err, tt.has)
			}
		})
	}
	for _, s := range []Share{{Private: true}, {SetID: true}, {ReadOnly: true}} {
		words, err := rust.command(root, shareRun{share: s, listen: "--fd=3"})
		if err != nil || words[0] != "vfs" {
			t.Errorf("%+v is guarded: %q, %v", s, words, err)
		}
	}
}

func TestEscapeFuse(t *testing.T) {
	if got, want := escapeFuse(`/a,b\c`), `/a\,b\\c`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseHelp(t *testing.T) {
	for _, c := range []struct {
		name, help string
		want       daemon
		known      bool
	}{
		{"c", "usage: virtiofsd [options]\n    -o source=PATH   shared directory tree\n", daemon{dialect: dialectC}, true},
		{"c, ordinary user", "setgroups() failed with error=1:Operation not permitted\n", daemon{dialect: dialectC}, true},
		{"rust", "Usage: virtiofsd [OPTIONS]\n --shared-dir <SHARED_DIR>\n", daemon{dialect: dialectRust}, true},
		{"rust with --readonly", "--shared-dir <SHARED_DIR>\n --readonly\n", daemon{dialect: dialectRust, readOnly: true}, true},
		{"another program", "usage: true\n", daemon{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, known := parseHelp(c.help)
			if got != c.want || known != c.known {
				t.Errorf("got %+v, %v", got, known)
			}
		})
	}
}

// What was found once is not asked for again.
func TestSharingIsKept(t *testing.T) {
	m := Machine{Shares: []Share{{Tag: "x"}}}
	o := Options{QEMU: "/nowhere/qemu", Virtiofsd: "/nowhere/virtiofsd"}
	if _, err := findTools(t.Context(), m, o); err == nil {
		t.Error("a virtiofsd that is not there answers")
	}
	o.Sharing = &Sharing{daemon: daemon{path: "/found", dialect: dialectRust}}
	if tools, err := findTools(t.Context(), m, o); err != nil || tools.daemon.path != "/found" {
		t.Errorf("got %+v, %v", tools, err)
	}
}
