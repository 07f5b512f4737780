package erofs

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// The tags of an ACL's entries; include/uapi/linux/posix_acl.h.
var aclTags = map[string]struct{ owner, named uint16 }{
	"user": {0x01, 0x02}, "u": {0x01, 0x02}, "group": {0x04, 0x08}, "g": {0x04, 0x08},
	"mask": {0x10, 0}, "m": {0x10, 0}, "other": {0x20, 0}, "o": {0x20, 0},
}

const (
	aclVersion = 2
	aclNobody  = 1<<32 - 1 // The id in entries without one.
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// encodeACL encodes an ACL in tar's text form: entries TAG:NAME:rwx, with an id in
// place of the name or after it (star's form). It reports false if an entry names a
// user or group without its number.
func encodeACL(text string) (value string, ok bool) {
	var all []aclEntry
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		e, ok := parseACL(strings.TrimSpace(part))
		if !ok {
			return "", false
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b aclEntry) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id)) })
	b := le.AppendUint32(nil, aclVersion)
	for _, e := range all {
		b = le.AppendUint32(le.AppendUint16(le.AppendUint16(b, e.tag), e.perm), e.id)
	}
	return string(b), len(all) > 0
}

func parseACL(s string) (e aclEntry, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) < 3 || len(parts) > 4 {
		return e, false
	}
	tags, known := aclTags[parts[0]]
	if e.tag, e.id = tags.owner, aclNobody; parts[1] != "" {
		e.tag = tags.named
		id, err := strconv.ParseUint(cmp.Or(strings.Join(parts[3:], ""), parts[1]), 10, 32)
		if err != nil {
			return e, false
		}
		e.id = uint32(id)
	}
	perm, fine := aclPermissions(parts[2])
	e.perm = perm
	return e, known && fine && e.tag != 0
}

func aclPermissions(s string) (perm uint16, ok bool) {
	const letters = "rwx"
	if len(s) != len(letters) {
		return 0, false
	}
	for i := range letters {
		switch perm <<= 1; s[i] {
		case letters[i]:
			perm |= 1
		case '-':
		default:
			return 0, false
		}
	}
	return perm, true
}
