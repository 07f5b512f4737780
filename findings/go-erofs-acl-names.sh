#!/bin/sh
# Package:   github.com/erofs/go-erofs v0.3.1 (Go module), beside mkfs.erofs of Debian 12
#            (erofs-utils 1.5-1)
# Expected:  system.posix_acl_access is attribute class 2 of EROFS with an empty rest of a
#            name, as Linux and mkfs.erofs have it, both when an image is written and read.
# Happens:   the library's table of classes has a dot at the end of the two names of ACLs.
#            Written, the attribute gets class 0 and its whole name; Linux knows no class 0
#            and does not show it: the ACL is gone once the image is mounted. Read from an
#            image of mkfs.erofs, it is called "system.posix_acl_access." with the dot. A
#            round trip through the library alone shows nothing wrong.
# Seen:      written by the library: class 0, name "system.posix_acl_access"
#            read back by the library: system.posix_acl_access
#            written by mkfs.erofs, read by the library: system.posix_acl_access.
# Needs:     Go 1.26 and its module proxy, Debian 12's packages, a temporary folder on a
#            file system with ACLs.
set -eu
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q erofs-utils=1.5-1 >log 2>&1 || { cat log; exit 1; }
dpkg -x erofs-utils_*.deb tools
cat >go.mod <<'MOD'
module finding

go 1.26

require github.com/erofs/go-erofs v0.3.1
MOD
cat >main.go <<'GO'
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/erofs/go-erofs"
)

const name = "system.posix_acl_access"

// acl is the kernel's form of u::rw-,u:1000:r--,g::r--,m::r--,o::r--.
var acl = []byte{
	2, 0, 0, 0,
	1, 0, 6, 0, 255, 255, 255, 255,
	2, 0, 4, 0, 232, 3, 0, 0,
	4, 0, 4, 0, 255, 255, 255, 255,
	16, 0, 4, 0, 255, 255, 255, 255,
	32, 0, 4, 0, 255, 255, 255, 255,
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func names(path string) string {
	f, err := os.Open(path)
	must(err)
	defer f.Close()
	img, err := erofs.Open(f)
	must(err)
	info, err := fs.Stat(img, "a")
	must(err)
	var out []string
	for k := range info.(interface{ GetAllXattr() map[string]string }).GetAllXattr() {
		out = append(out, k)
	}
	return strings.Join(out, " ")
}

func main() {
	must(os.Mkdir("tree", 0o755))
	must(os.WriteFile("tree/a", []byte("content"), 0o664))
	must(syscall.Setxattr("tree/a", name, acl, 0))

	out, err := os.Create("library.img")
	must(err)
	w := erofs.Create(out)
	must(w.CopyFrom(os.DirFS("tree")))
	must(w.Setxattr("a", name, string(acl)))
	must(w.Close())
	must(out.Close())
	raw, err := os.ReadFile("library.img")
	must(err)
	// An entry on disk: length of the name, class, length of the value (two bytes), name.
	at := bytes.Index(raw, []byte(name))
	if at < 4 || int(raw[at-4]) != len(name) {
		fmt.Println("written by the library: no entry with the whole name")
	} else {
		fmt.Printf("written by the library: class %d, name %q\n", raw[at-3], raw[at:at+int(raw[at-4])])
	}
	fmt.Println("read back by the library:", names("library.img"))

	b, err := exec.Command("tools/usr/bin/mkfs.erofs", "-x", "1", "mkfs.img", "tree").CombinedOutput()
	if err != nil {
		log.Fatalf("%v: %s", err, b)
	}
	fmt.Println("written by mkfs.erofs, read by the library:", names("mkfs.img"))
}
GO
go mod tidy >log 2>&1 || { cat log; exit 1; }
go run . | tee seen
cat >want <<'WANT'
written by the library: class 0, name "system.posix_acl_access"
read back by the library: system.posix_acl_access
written by mkfs.erofs, read by the library: system.posix_acl_access.
WANT
cmp -s seen want || { echo "changed: see the lines above"; exit 1; }
