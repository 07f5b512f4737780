package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	plain      fs.FileMode = 0o644
	executable fs.FileMode = 0o755
)

// An entry is one of a layer.
type entry struct {
	header tar.Header
	data   []byte
}

func directory(name string) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: int64(executable)}}
}

// file has the mode's bits as tar has them, so 0o4755 is set-user-ID.
func file(name string, data []byte, mode fs.FileMode) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode), Size: int64(len(data))}, data}
}

// layerOf panics at what only a mistake in this program can cause: its archives are in
// memory.
func layerOf(entries ...entry) v1.Layer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.header); err != nil {
			panic(err)
		}
		if _, err := w.Write(e.data); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		panic(err)
	}
	return layer
}

// users and groups are those that the suites ask for by name.
const (
	users = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
sys:x:3:3:sys:/dev:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
default-user:x:1000:1000::/home:/bin/sh
`
	groups = `root:x:0:
daemon:x:1:
sys:x:3:
www-data:x:33:
nogroup:x:65534:
default-user:x:1000:
group-defined-in-image:x:50000:default-user
`
)

// busybox is the root of all images but pause. Its applets are hard links, because a
// suite hides one of them by a mount, which through a symbolic link would hide all.
func busybox() (v1.Layer, error) {
	const binary = "/bin/busybox"
	b, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(binary, "--list").Output() //nolint:noctx // It prints and ends.
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", binary, err)
	}
	var all []entry
	for d := range strings.FieldsSeq("bin etc root home usr usr/bin usr/sbin var var/www dev proc sys run www") {
		all = append(all, directory(d))
	}
	all = append(all,
		entry{header: tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777}},
		file("bin/busybox", b, executable),
		// Debian's static busybox lacks two applets that the suites call.
		file("bin/pgrep", []byte("#!/bin/sh\npidof \"$1\" | tr \" \" \"\\n\"\n"), executable),
		file("bin/ipcs", []byte("#!/bin/sh\ncat /proc/sysvipc/shm\n"), executable),
		file("etc/passwd", []byte(users), plain), file("etc/group", []byte(groups), plain),
		file("www/index.html", []byte("Welcome to nginx!\n"), plain),
	)
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" && applet != "pgrep" && applet != "ipcs" {
			all = append(all, entry{header: tar.Header{Typeflag: tar.TypeLink, Name: "bin/" + applet, Linkname: "bin/busybox", Mode: int64(executable)}})
		}
	}
	return layerOf(all...), nil
}
