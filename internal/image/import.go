package image

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	kernelKind   = "kernels"
	kernelRecord = "kernel.json"
	// importRecipe is part of every imported kernel's key.
	importRecipe = "kernel 1"
)

// ImportKernel makes one kernel of the files and keeps it. Usually it is one
// file: a libkrunfw library, a linux-image package, a bzImage, an ELF kernel or an Image
// for arm64, which may be compressed; several where a distribution packs modules apart
// (linux-modules). There must be one image in them, and modules of its release only.
//
// Importing a file again makes its kernel the newest again.
func (c *Cache) ImportKernel(paths ...string) (Kernel, error) {
	k, err := c.importKernel(paths)
	if err != nil {
		return Kernel{}, fmt.Errorf("import kernel: %w", err)
	}
	k.Imported = time.Now()
	if err := os.Chtimes(filepath.Join(filepath.Dir(k.Path), kernelRecord), k.Imported, k.Imported); err != nil {
		return Kernel{}, fmt.Errorf("import kernel: %w", err)
	}
	return k, nil
}

// importKernel keeps the import time of a kernel that is in the cache already, so that
// booting a file once does not make it the default.
func (c *Cache) importKernel(paths []string) (Kernel, error) {
	key, err := importKey(paths)
	if err != nil {
		return Kernel{}, err
	}
	dir, err := c.Dir(kernelKind, key, func(dir string) error { return unpack(dir, paths) })
	if err != nil {
		return Kernel{}, err
	}
	return c.loadKernel(dir)
}

// importKey does not depend on the order of the files.
func importKey(paths []string) (string, error) {
	if len(paths) == 0 {
		return "", errors.New("no file named")
	}
	var keys []string
	for _, p := range paths {
		k := newKeyer(importRecipe)
		if err := k.addFile(p); err != nil {
			return "", err
		}
		keys = append(keys, k.key())
	}
	slices.Sort(keys)
	k := newKeyer(importRecipe)
	for _, s := range keys {
		k.add([]byte(s))
	}
	return k.key(), nil
}

// A record is what kernel.json says.
type record struct {
	Name    string `json:"name"`
	File    string `json:"file"`
	Release string `json:"release"`
	Console string `json:"console"`
	Initrd  bool   `json:"initrd"`

	Architecture string `json:"architecture,omitempty"` // "" is amd64, the only one of older caches.
	PageSize     int    `json:"page_size,omitempty"`    // In bytes; 0 is 4096.
}

// An importer fills the directory of one kernel from several files.
type importer struct {
	root     *os.Root
	record   record
	releases map[string]bool // The releases of the modules found.
}

func unpack(dir string, paths []string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	im := importer{root: root, releases: map[string]bool{}}
	for _, p := range paths {
		if err := im.add(p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if err := im.check(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(im.record, "", "  ")
	if err != nil {
		return err
	}
	return im.keep(kernelRecord, bytes.NewReader(append(b, '\n')))
}

func (im *importer) add(p string) error {
	f, err := os.Open(p) //nolint:gosec // G703: the user names the file.
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if kind, err := identify(f); err != nil {
		return err
	} else if kind == formDeb {
		return walkDeb(f, im.visit)
	}
	return im.anyImage(f)
}

// anyImage takes a kernel that may be compressed.
func (im *importer) anyImage(r readerAt) error {
	kind, err := identify(r)
	if err == nil {
		kind, r, err = unwrap(kind, r)
	}
	if err != nil {
		return err
	}
	return im.image(kind, r)
}

// visit keeps the files of a package that a machine needs: the kernel image and the
// modules.
func (im *importer) visit(name string, r io.Reader) error {
	name = strings.TrimPrefix(filepath.ToSlash(name), "usr/") // Merged /usr.
	if ok, _ := path.Match("boot/vmlinu[xz]-*", name); ok {
		b, err := readBounded(r, maxImage)
		if err != nil {
			return err
		}
		return im.anyImage(bytes.NewReader(b))
	}
	return im.module(name, r)
}

func (im *importer) module(name string, r io.Reader) error {
	rest, ok := strings.CutPrefix(name, "lib/modules/")
	rel, file, _ := strings.Cut(rest, "/")
	if !ok || !isModule(file) && file != builtinFile {
		return nil
	}
	if !isRelease(rel) {
		return fmt.Errorf("modules of %q: not a kernel release", rel)
	}
	im.releases[rel] = true
	if err := im.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	// This does not sync each file: a package has a thousand modules, and a module that
	// a crash has cut is refused when it is read.
	return im.write(name, r, moduleBytes, func(*os.File) error { return nil })
}

// keep writes a file and syncs it, because nothing would detect a kernel that a crash
// has cut.
func (im *importer) keep(name string, r io.Reader) error {
	return im.write(name, r, maxImage, (*os.File).Sync)
}

func (im *importer) write(name string, r io.Reader, limit int64, settle func(*os.File) error) error {
	f, err := im.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%w (%d bytes)", ErrTooLarge, limit)
	}
	return errors.Join(err, settle(f), f.Close())
}

func (im *importer) image(kind form, r readerAt) error {
	if im.record.File != "" {
		return errors.New("a second kernel: import one at a time")
	}
	switch kind {
	case formKrunfw:
		return im.krunfw(r)
	case formBzImage:
		return im.bzImage(r)
	case formELF:
		return im.described(describeELF(r))
	case formImage:
		return im.described(describeImage(r))
	case formUnknown, formDeb, formCompressed, formZboot:
	}
	return ErrUnknownFormat
}

// A readerAt is an open file, or a file of a package in memory.
type readerAt interface {
	io.Reader
	io.ReaderAt
}

func (im *importer) krunfw(r io.ReaderAt) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return err
	}
	b, err := openBundle(f)
	if err != nil {
		return err
	}
	if b.architecture == archARM64 { // The kernel's memory is its Image.
		rec, err := describeARM64(b.memory)
		rec.Name = "krunfw-" + rec.Release + "-" + archARM64
		return im.described(rec, b.memory, err)
	}
	rel, err := memoryRelease(b.memory)
	if err != nil {
		return err
	}
	console, initrd := traits(b.memory)
	var file bytes.Buffer
	if err := b.writeELF(&file); err != nil {
		return err
	}
	return im.described(record{Name: "krunfw-" + rel, File: "vmlinux", Release: rel, Console: console, Initrd: initrd}, file.Bytes(), nil)
}

func (im *importer) bzImage(r readerAt) error {
	rec, err := describeBzImage(r)
	if err != nil {
		return err
	}
	im.record = rec
	return im.keep(rec.File, r)
}

// described keeps a kernel that was read whole.
func (im *importer) described(rec record, b []byte, err error) error {
	if err != nil {
		return err
	}
	im.record = rec
	return im.keep(rec.File, bytes.NewReader(b))
}

// describeELF also returns the content of the file, which it reads whole anyway.
func describeELF(r io.ReaderAt) (record, []byte, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return record{}, nil, err
	}
	if err := pvhProgram(f); err != nil {
		return record{}, nil, err
	}
	b, err := readBounded(io.NewSectionReader(r, 0, maxImage+1), maxImage)
	if err != nil {
		return record{}, nil, err
	}
	rel, err := memoryRelease(b)
	console, initrd := traits(b)
	return record{Name: rel, File: "vmlinux", Release: rel, Console: console, Initrd: initrd}, b, err
}

// check refuses files without a kernel image, and modules of another release.
func (im *importer) check() error {
	if im.record.File == "" {
		return errors.New("no kernel image in it (a package without one names the package that has it in its dependencies)")
	}
	for rel := range im.releases {
		if rel != im.record.Release {
			return fmt.Errorf("modules of %s do not fit kernel %s", rel, im.record.Release)
		}
	}
	return nil
}
