package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// foreignBusybox is a static program that this host cannot run.
func foreignBusybox(t *testing.T) string {
	t.Helper()
	b := makeELF(elf.ET_EXEC, 1, []segment{{elf.PT_LOAD, 0x1000, []byte("x")}}, nil)
	b[18], b[19] = byte(elf.EM_S390&0xff), byte(elf.EM_S390>>8)
	return writeFile(t, filepath.Join(t.TempDir(), "busybox"), b)
}

func listTree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		must(t, err)
		info, err := os.Lstat(p)
		must(t, err)
		rel, err := filepath.Rel(dir, p)
		must(t, err)
		fmt.Fprintf(&out, "%v %s", info.Mode(), rel)
		if target, err := os.Readlink(p); err == nil {
			fmt.Fprintf(&out, " -> %s", target)
		}
		fmt.Fprintln(&out)
		return nil
	}))
	return out.String()
}

func TestBusyboxRoot(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "root")
	must(t, BusyboxRoot(dir, foreignBusybox(t)))
	golden(t, "root.txt", listTree(t, dir))
	for _, link := range []string{"bin/sh", "usr/bin/env", "sbin/reboot"} {
		info, err := os.Stat(filepath.Join(dir, link))
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", link, info, err)
		}
	}
	for _, file := range []string{"etc/hosts", "etc/resolv.conf"} {
		if exists(filepath.Join(dir, file)) {
			t.Errorf("%s is there; the agent writes it", file)
		}
	}
}

func TestBusyboxAsksItsApplets(t *testing.T) {
	script := writeFile(t, filepath.Join(t.TempDir(), "busybox"), []byte("#!/bin/sh\n[ \"$1\" = --list-full ] && printf 'bin/sh\\n../x\\nusr/bin/[\\nbin/..\\nlinuxrc\\n'\n"))
	must(t, os.Chmod(script, 0o755))
	if got := applets(script, machines[runtime.GOARCH]); !slices.Equal(got, []string{"bin/sh", "usr/bin/["}) {
		t.Errorf("applets %q", got)
	}
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nexit 1\n"), 0o755))
	if got := applets(script, machines[runtime.GOARCH]); len(got) < 200 {
		t.Errorf("usual applets %q", got)
	}
}

// A wget that its own option ends is not handed out: the guest has none then, and
// says so.
func TestBusyboxWithoutAWgetThatCrashes(t *testing.T) {
	for crash, want := range map[string][]string{"kill -SEGV $$": {"bin/sh"}, "exit 1": {"bin/sh", "usr/bin/wget"}} {
		script := writeFile(t, filepath.Join(t.TempDir(), "busybox"), []byte(
			"#!/bin/sh\n[ \"$1\" = --list-full ] && exec printf 'bin/sh\\nusr/bin/wget\\n'\n[ \"$1 $2\" = 'wget -T' ] && "+crash+"\nexit 0\n"))
		must(t, os.Chmod(script, 0o755))
		if got := applets(script, machines[runtime.GOARCH]); !slices.Equal(got, want) {
			t.Errorf("%s: applets %q, want %q", crash, got, want)
		}
	}
}

func TestFindBusybox(t *testing.T) {
	dir := t.TempDir()
	load := segment{elf.PT_LOAD, 0x1000, []byte("x")}
	dynamic := writeFile(t, filepath.Join(dir, "dynamic"), makeELF(elf.ET_DYN, 1, []segment{load, {elf.PT_INTERP, 0x2000, []byte("ld.so\x00")}}, nil))
	b := makeELF(elf.ET_EXEC, 1, []segment{load}, nil)
	b[18] = byte(machines[runtime.GOARCH])
	static := writeFile(t, filepath.Join(dir, "static"), b)
	got, err := findBusybox(filepath.Join(dir, "none"), dynamic, static)
	if err != nil || got != static {
		t.Errorf("found %q, %v", got, err)
	}
	_, err = findBusybox(filepath.Join(dir, "none"), dynamic, foreignBusybox(t))
	for _, want := range []string{"busybox-static", "none: no such file", "dynamic: dynamically linked", "for EM_S390"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v has no %q", err, want)
		}
	}
	if !errors.Is(err, ErrNoBusybox) {
		t.Errorf("error %v is not ErrNoBusybox", err)
	}
}

func TestCacheBusyboxRoot(t *testing.T) {
	c := openCache(t)
	busybox := foreignBusybox(t)
	a, err := c.BusyboxRoot(busybox)
	must(t, err)
	b, err := c.BusyboxRoot(busybox)
	must(t, err)
	if a != b || !exists(filepath.Join(a, "bin", "busybox")) {
		t.Errorf("roots %s and %s", a, b)
	}
	if _, err := c.BusyboxRoot(filepath.Join(a, "etc", "passwd")); err == nil {
		t.Error("made a root of a text")
	}
}

func sampleTree(t *testing.T) string {
	t.Helper()
	src := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(src, "dir", "locked"), 0o755))
	writeFile(t, filepath.Join(src, "dir", "file"), []byte("text"))
	must(t, os.Chmod(filepath.Join(src, "dir", "file"), 0o4751|os.ModeSetuid))
	must(t, os.Link(filepath.Join(src, "dir", "file"), filepath.Join(src, "second")))
	must(t, os.Symlink("/no/where", filepath.Join(src, "link")))
	must(t, os.Chmod(src, 0o777|os.ModeSticky))
	writeFile(t, filepath.Join(src, "dir", "locked", "f"), nil)
	must(t, os.Chmod(filepath.Join(src, "dir", "locked"), 0o555))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(src, "dir", "locked"), 0o755) })
	then := time.Unix(1e9, 123)
	for _, p := range []string{"dir/file", "dir/locked", "dir", "."} {
		must(t, os.Chtimes(filepath.Join(src, p), then, then))
	}
	return src
}

func TestCopyTree(t *testing.T) {
	src := sampleTree(t)
	dst := filepath.Join(t.TempDir(), "dst")
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dst, "dir", "locked"), 0o755) })
	must(t, CopyTree(dst, src))
	if got, want := listTree(t, dst), listTree(t, src); got != want {
		t.Errorf("copy:\n%s\nsource:\n%s", got, want)
	}
	for _, p := range []string{"dir/file", "second", "dir/locked", "dir", "."} {
		a, err := os.Stat(filepath.Join(src, p))
		must(t, err)
		b, err := os.Stat(filepath.Join(dst, p))
		must(t, err)
		if !a.ModTime().Equal(b.ModTime()) || os.SameFile(a, b) {
			t.Errorf("%s: %v and %v, same file: %t", p, a.ModTime(), b.ModTime(), os.SameFile(a, b))
		}
	}
	must(t, os.WriteFile(filepath.Join(dst, "second"), []byte("changed"), 0o600))
	inCopy, err := os.ReadFile(filepath.Join(dst, "dir", "file"))
	must(t, err)
	inSource, err := os.ReadFile(filepath.Join(src, "second"))
	must(t, err)
	if string(inCopy) != "changed" || string(inSource) != "text" {
		t.Errorf("after a write to the copy: copy %q, source %q", inCopy, inSource)
	}
}

func TestCopyTreeRefuses(t *testing.T) {
	src := sampleTree(t)
	pipe := t.TempDir()
	must(t, syscall.Mkfifo(filepath.Join(pipe, "p"), 0o600))
	for name, c := range map[string]struct{ dst, src string }{
		"not empty":  {src, pipe},
		"a pipe":     {filepath.Join(t.TempDir(), "d"), pipe},
		"no source":  {filepath.Join(t.TempDir(), "d"), filepath.Join(src, "none")},
		"a file":     {filepath.Join(t.TempDir(), "d"), filepath.Join(src, "second")},
		"itself":     {filepath.Join(src, "new"), src},
		"no parents": {filepath.Join(t.TempDir(), "a", "b"), src},
	} {
		if err := CopyTree(c.dst, c.src); err == nil {
			t.Errorf("%s: copied", name)
		}
	}
}
