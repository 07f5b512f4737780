package suite

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/agentd-go/agentd/client"
)

// clientFS is the guest's file system as package io/fs has it.
func clientFS(t *testing.T, g *guest) {
	t.Helper()
	c, dir := g.Client(), g.scratch(t, "/root")
	if err := c.MkdirAll(g.ctx, dir+"/d/e", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, g, c, map[string]string{dir + "/a": "one\n", dir + "/empty": "", dir + "/d/b": "two", dir + "/d/e/c": "three"})
	if err := errors.Join(c.Symlink(g.ctx, "d/b", dir+"/link"), c.Symlink(g.ctx, "d", dir+"/way")); err != nil {
		t.Fatal(err)
	}
	root := c.FS().WithContext(g.ctx)
	for _, tt := range []struct {
		dir   string
		files []string
	}{
		{dir[1:], []string{"a", "empty", "d/b", "d/e/c", "link"}},
		{"etc", []string{"hosts", "passwd"}},
	} {
		sub, err := fs.Sub(root, tt.dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := fstest.TestFS(sub, tt.files...); err != nil {
			t.Error(err)
		}
	}
}

// clientFiles is every operation once, and the errors that a caller tells apart.
//
//holds:wire 9: shapes, nulls, prefixes and texts
func clientFiles(t *testing.T, g *guest) {
	t.Helper()
	c, ctx, dir := g.Client(), g.ctx, g.scratch(t, "/dev/shm")
	name := dir + "/file"
	write(t, g, c, map[string]string{name: "0123456789"})
	when := time.Unix(1_234_567_890, 0)
	err := errors.Join(
		c.Truncate(ctx, name, 4), c.Chtimes(ctx, name, time.Time{}, when), c.Copy(ctx, name, dir+"/copy"),
		c.Rename(ctx, dir+"/copy", dir+"/renamed"), c.Chown(ctx, dir+"/renamed", 7, -1),
		c.Chmod(ctx, dir+"/renamed", 0o600|fs.ModeSetuid), c.Symlink(ctx, "file", dir+"/link"), c.Mkdir(ctx, dir+"/sub", 0o700),
	)
	if err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		want string
		got  func() (string, error)
	}{
		{"0123", func() (string, error) { b, err := c.ReadFile(ctx, dir+"/renamed"); return string(b), err }},
		{"file", func() (string, error) { return c.ReadLink(ctx, dir+"/link") }},
		{name, func() (string, error) { return c.RealPath(ctx, dir+"/link") }},
		{"[file link renamed sub]", func() (string, error) { return names(c.ReadDir(ctx, dir)) }},
		{"renamed urw------- 4 uid 7", func() (string, error) { return described(c.Stat(ctx, dir+"/renamed")) }},
		{"link Lrwxrwxrwx 4 uid 0", func() (string, error) { return described(c.Lstat(ctx, dir+"/link")) }},
		{"sub drwx------ 40 uid 0", func() (string, error) { return described(c.Stat(ctx, dir+"/sub")) }},
		{"2009-02-13T23:31:30Z", func() (string, error) { i, err := c.Stat(ctx, name); return changed(i), err }},
		{"null Dcrw-rw-rw- 0 uid 0", func() (string, error) { return described(c.Stat(ctx, "/dev/null")) }},
		{"0 bytes, 0 of them, <nil>", func() (string, error) { return positions(g, dir+"/positions") }},
		{"first\nsecond\n", func() (string, error) { return appended(g, dir+"/appended") }},
		{"[\ufffdodd], which is not to be found: true", func() (string, error) { return odd(g, dir+"/odd") }},
	} {
		if got, err := tt.got(); err != nil || got != tt.want {
			t.Errorf("got %q, %v; want %q", got, err, tt.want)
		}
	}
	clientErrors(t, g, dir)
}

func names(entries []fs.DirEntry, err error) (string, error) {
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return fmt.Sprint(all), err
}

func described(i fs.FileInfo, err error) (string, error) {
	if err != nil {
		return "", err
	}
	entry, _ := i.Sys().(*client.Stat)
	return fmt.Sprintf("%s %v %d uid %d", i.Name(), i.Mode(), i.Size(), entry.UID), nil
}

func changed(i fs.FileInfo) string {
	if i == nil {
		return ""
	}
	return i.ModTime().UTC().Format(time.RFC3339)
}

// clientErrors are the errors of package fs, and the guest's own numbers.
func clientErrors(t *testing.T, g *guest, dir string) {
	t.Helper()
	c, ctx, missing := g.Client(), g.ctx, dir+"/missing"
	opened, err := c.Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = opened.Read(make([]byte, 1))
	for _, tt := range []struct {
		err   error
		is    error
		errno syscall.Errno
	}{
		{second(c.Stat(ctx, missing)), fs.ErrNotExist, syscall.ENOENT},
		{second(c.OpenFile(ctx, dir+"/file", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)), fs.ErrExist, syscall.EEXIST},
		{c.Mkdir(ctx, dir+"/sub", 0o700), fs.ErrExist, syscall.EEXIST},
		{c.Mkdir(ctx, missing+"/sub", 0o700), fs.ErrNotExist, syscall.ENOENT},
		{c.Rename(ctx, missing, dir+"/x"), fs.ErrNotExist, syscall.ENOENT},
		{c.Remove(ctx, dir), fs.ErrExist, syscall.ENOTEMPTY},
		{second(c.ReadDir(ctx, dir+"/file")), syscall.ENOTDIR, syscall.ENOTDIR},
		{err, syscall.EISDIR, syscall.EISDIR},
	} {
		errno, _ := errors.AsType[syscall.Errno](tt.err)
		if !errors.Is(tt.err, tt.is) || errno != tt.errno {
			t.Errorf("got %v with errno %d, want %v with %d", tt.err, errno, tt.is, tt.errno)
		}
	}
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
	if err := opened.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	if err := errors.Join(c.Remove(ctx, dir+"/sub"), c.RemoveAll(ctx, missing), c.Remove(ctx, dir+"/link")); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// clientVolume is a large file each way, on the file systems of a machine without disks.
func clientVolume(t *testing.T, g *guest) {
	t.Helper()
	volumes(t, g, dirs...)
}

// volumes is a large file each way, on each of the directories' file systems.
func volumes(t *testing.T, g *guest, dirs ...string) {
	t.Helper()
	size := 24 << 20
	if long() {
		size = 256 << 20
	}
	data := random(size, 3)
	want := sha256.Sum256(data)
	for _, in := range dirs {
		t.Run(in, func(t *testing.T) {
			c, name := g.Client(), g.scratch(t, in)+"/large"
			start := time.Now()
			f, err := c.Create(g.ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := f.ReadFrom(bytes.NewReader(data)); n != int64(size) || err != nil {
				t.Fatalf("%d of %d bytes written: %v", n, size, err)
			}
			written := time.Since(start)
			out, err := g.say("sha256sum <" + name)
			if err != nil || out != fmt.Sprintf("%x  -\n", want) {
				t.Errorf("the guest has %q, %v; want %x", out, err, want)
			}
			start = time.Now()
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got := sha256.New()
			if n, err := f.WriteTo(got); n != int64(size) || err != nil || !bytes.Equal(got.Sum(nil), want[:]) {
				t.Errorf("%d of %d bytes read, or others: %v", n, size, err)
			}
			read := time.Since(start)
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			t.Logf("%d MiB: %.1f MiB/s to the guest, %.1f MiB/s from it", size>>20, rate(size, written), rate(size, read))
		})
	}
}

func rate(n int, took time.Duration) float64 { return float64(n) / (1 << 20) / took.Seconds() }

// clientListing is many small files: written, listed by pages, read, removed.
func clientListing(t *testing.T, g *guest) {
	t.Helper()
	count := 600
	if long() {
		count = 10_000
	}
	c, dir := g.Client(), g.scratch(t, "/dev/shm")
	var want []string
	for i := range count {
		name := fmt.Sprintf("file-%05d", i)
		want = append(want, name)
		write(t, g, c, map[string]string{dir + "/" + name: name})
	}
	f, err := c.Open(g.ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		page, err := f.Readdirnames(100)
		got = append(got, page...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(page) > 100 {
			t.Fatalf("a page of %d: %v", len(page), err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Fatalf("%d names listed, want %d", len(got), count)
	}
	for _, name := range want {
		if b, err := c.ReadFile(g.ctx, dir+"/"+name); err != nil || string(b) != name {
			t.Fatalf("%s: %q, %v", name, b, err)
		}
	}
}

// positions mixes every way to read and write one file.
func positions(g *guest, name string) (string, error) {
	f, err := g.Client().Create(g.ctx, name)
	if err != nil {
		return "", err
	}
	_, err1 := f.WriteString("abcdefghij")
	_, err2 := f.WriteAt([]byte("XY"), 2)
	_, err3 := f.Seek(-4, io.SeekEnd)
	b := make([]byte, 2)
	_, err4 := io.ReadFull(f, b)
	_, err5 := f.WriteString("Z")
	_, err6 := f.Seek(0, io.SeekStart)
	all, err7 := io.ReadAll(f)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, f.Truncate(0)); err != nil {
		return "", err
	}
	if string(b) != "gh" || string(all) != "abXYefghZj" {
		return "", fmt.Errorf("read %q and %q", b, all)
	}
	i, err := f.Stat()
	if err != nil {
		return "", err
	}
	n, err := f.Read(b)
	if !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("after the end: %w", err)
	}
	return fmt.Sprintf("%d bytes, %d of them, %v", i.Size(), n, f.Close()), nil
}

// appended writes after what others wrote.
func appended(g *guest, name string) (string, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	for _, line := range []string{"first\n", "second\n"} {
		f, err := g.Client().OpenFile(g.ctx, name, flags, 0o600)
		if err != nil {
			return "", err
		}
		_, err = f.WriteString(line)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return g.say("cat " + name)
}

// odd is a name that is not UTF-8: it shows, and cannot be used.
func odd(g *guest, dir string) (string, error) {
	if _, err := g.say(`mkdir ` + dir + ` && touch "` + dir + `/$(printf '\377')odd"`); err != nil {
		return "", err
	}
	shown, err := names(g.Client().ReadDir(g.ctx, dir))
	if err != nil {
		return "", err
	}
	_, err = g.Client().Stat(g.ctx, dir+"/\ufffdodd")
	return fmt.Sprintf("%s, which is not to be found: %v", shown, errors.Is(err, fs.ErrNotExist)), nil
}
