package image

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// modinfoBytes bounds a .modinfo section. Modules with many aliases come to
// some 100 KiB.
const modinfoBytes = 4 << 20

// A modinfo lists the dependencies that a module declares.
type modinfo struct {
	depends []string
	before  []string // softdep pre: optional.
	after   []string // softdep post
}

// parseModinfo reads the .modinfo section of a module: strings key=value, each
// with a NUL after it.
func parseModinfo(module []byte) (modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return modinfo{}, err
	}
	s := f.Section(".modinfo")
	if f.Type != elf.ET_REL || s == nil {
		return modinfo{}, errors.New("no .modinfo section: not a kernel module")
	}
	// The kernel refuses compressed sections, and reading one would allocate the size
	// that its header claims.
	if s.Flags&elf.SHF_COMPRESSED != 0 {
		return modinfo{}, errors.New(".modinfo: compressed section")
	}
	b, err := readBounded(io.NewSectionReader(s, 0, modinfoBytes+1), modinfoBytes)
	if err != nil {
		return modinfo{}, fmt.Errorf(".modinfo: %w", err)
	}
	return modinfoStrings(b), nil
}

func modinfoStrings(b []byte) (m modinfo) {
	for field := range strings.SplitSeq(string(b), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "depends":
			m.depends = append(m.depends, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "softdep":
			m.soft(value)
		}
	}
	return m
}

// soft reads "pre: a b post: c"; modprobe.d(5).
func (m *modinfo) soft(value string) {
	var into *[]string
	for word := range strings.FieldsSeq(value) {
		switch {
		case word == "pre:":
			into = &m.before
		case word == "post:":
			into = &m.after
		case into != nil:
			*into = append(*into, word)
		}
	}
}
