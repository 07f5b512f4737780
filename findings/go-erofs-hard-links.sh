#!/bin/sh
# Package:   github.com/erofs/go-erofs v0.3.1 (Go module)
# Expected:  Writer.CopyFrom of a directory keeps hard links: two names of one file
#            are one inode with two names, and its data is stored once.
# Happens:   each name becomes an inode of its own with its own copy of the data. The
#            link count of the source is copied all the same, so both inodes claim two
#            names and have one. Writer has no call that adds a second name.
# Seen:      a: inode 4, links 2
#            b: inode 6, links 2
#            the file's bytes are stored 2 times
#            (the numbers of the inodes do not matter; that they differ does)
# Needs:     Go 1.26 and its module proxy.
set -eu
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
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
	"strings"

	"github.com/erofs/go-erofs"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	content := []byte("one file with two names" + strings.Repeat("-", 1<<16))
	must(os.Mkdir("tree", 0o755))
	must(os.WriteFile("tree/a", content, 0o644))
	must(os.Link("tree/a", "tree/b"))

	out, err := os.Create("image")
	must(err)
	w := erofs.Create(out)
	must(w.CopyFrom(os.DirFS("tree")))
	must(w.Close())

	img, err := erofs.Open(out)
	must(err)
	inodes := map[int64]bool{}
	for _, name := range []string{"a", "b"} {
		info, err := fs.Stat(img, name)
		must(err)
		st := info.Sys().(*erofs.Stat)
		inodes[st.Ino] = true
		fmt.Printf("%s: inode %d, links %d\n", name, st.Ino, st.Nlink)
	}
	raw, err := os.ReadFile("image")
	must(err)
	times := bytes.Count(raw, content[:24])
	fmt.Printf("the file's bytes are stored %d times\n", times)
	if len(inodes) != 2 || times != 2 {
		log.Fatal("changed: the names share an inode")
	}
}
GO
go mod tidy >/dev/null 2>&1
go run .
