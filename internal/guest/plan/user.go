package plan

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// What is wrong with a user spec. The texts reach the host as they are here,
// with the name that was not found after the first two.
var (
	ErrUserNotFound  = errors.New("guest user not found")
	ErrGroupNotFound = errors.New("guest group not found")
	ErrEmptyUser     = errors.New("user spec has empty user")
	ErrEmptyGroup    = errors.New("user spec has empty group")
	ErrTooManyGroups = errors.New("guest user is in too many groups")
)

// UserSpec is a user as a host names one, USER[:GROUP], by names or numbers. The
// zero value is no user: a command stays what the agent is, root.
type UserSpec struct {
	User  string
	Group string // empty: the group of the user
}

// ParseUserSpec splits a spec at its first colon and trims both parts. A blank
// spec is the zero value.
func ParseUserSpec(s string) (UserSpec, error) {
	if strings.TrimSpace(s) == "" {
		return UserSpec{}, nil
	}
	user, group, hasGroup := strings.Cut(s, ":")
	spec := UserSpec{User: strings.TrimSpace(user), Group: strings.TrimSpace(group)}
	if spec.User == "" {
		return UserSpec{}, ErrEmptyUser
	}
	if hasGroup && spec.Group == "" {
		return UserSpec{}, ErrEmptyGroup
	}
	return spec, nil
}

// checkUser is the rule for a configured user. Whether the user exists is known
// once the root file system is.
func checkUser(s string) string {
	switch _, err := ParseUserSpec(s); {
	case errors.Is(err, ErrEmptyUser):
		return "must have a user before the colon"
	case errors.Is(err, ErrEmptyGroup):
		return "must have a group after the colon"
	}
	return ""
}

// Credential is who a command runs as.
type Credential struct {
	// Switch is false for the blank spec: no id and no group is changed.
	Switch   bool
	UID, GID uint32
	// Groups are the supplementary groups as initgroups(3) sets them: GID, then
	// each group that lists the user, so that one may be there twice. They are
	// empty for a user without an entry in the password file.
	Groups []uint32
	// Name and Home are those of the entry in the password file, and empty
	// without one.
	Name, Home string
}

// Bounds on files that an image can fill with anything.
const (
	// MaxAccountFile is how much of a passwd or group file is looked at: a
	// hundred thousand entries, and some milliseconds. Entries that do not fit
	// do not exist.
	MaxAccountFile = 8 << 20
	// maxGroups is what setgroups(2) takes (NGROUPS_MAX).
	maxGroups = 65536
)

// ResolveUser finds who spec is, in the contents of /etc/passwd and /etc/group.
// A number need not have an entry: such a user has the group 0 unless the spec
// names one. The number 4294967295 is found too; the kernel will not switch to
// it.
func ResolveUser(spec string, passwd, group []byte) (Credential, error) {
	u, err := ParseUserSpec(spec)
	if err != nil {
		return Credential{}, err
	}
	passwd, group = whole(passwd), whole(group)
	if u == (UserSpec{}) {
		root, _ := findUID(passwd, 0)
		return Credential{Name: string(root.name), Home: string(root.home)}, nil
	}
	c, err := resolveUser(u.User, passwd)
	if err != nil {
		return Credential{}, err
	}
	if u.Group != "" {
		if c.GID, err = resolveGroup(u.Group, group); err != nil {
			return Credential{}, err
		}
	}
	if c.Name != "" {
		if c.Groups, err = initGroups(c.Name, c.GID, group); err != nil {
			return Credential{}, err
		}
	}
	return c, nil
}

func resolveUser(user string, passwd []byte) (Credential, error) {
	if uid, numeric := parseUint(user, 10, 32); numeric {
		a, _ := findUID(passwd, uint32(uid))
		return a.credential(uint32(uid)), nil
	}
	a, found := findAccount(passwd, func(a account) bool { return string(a.name) == user })
	if !found {
		return Credential{}, fmt.Errorf("%w: %s", ErrUserNotFound, user)
	}
	return a.credential(a.uid), nil
}

func resolveGroup(name string, group []byte) (uint32, error) {
	if gid, ok := parseUint(name, 10, 32); ok {
		return uint32(gid), nil
	}
	for line := range bytes.SplitSeq(group, newline) {
		if g, ok := parseMembership(line); ok && string(g.name) == name {
			return g.gid, nil
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrGroupNotFound, name)
}

// initGroups returns gid and every group that lists the user.
func initGroups(user string, gid uint32, group []byte) ([]uint32, error) {
	groups := []uint32{gid}
	for line := range bytes.SplitSeq(group, newline) {
		if g, ok := parseMembership(line); ok && g.lists(user) {
			groups = append(groups, g.gid)
		}
		if len(groups) > maxGroups {
			return nil, fmt.Errorf("%w: %s", ErrTooManyGroups, user)
		}
	}
	return groups, nil
}

// account is one line of a password file, membership one of a group file. The
// slices point into the file.
type account struct {
	name, home []byte
	uid, gid   uint32
}

// credential returns the user uid with what the entry says; the zero entry says
// nothing but group 0, which is that of the agent.
func (a account) credential(uid uint32) Credential {
	return Credential{Switch: true, UID: uid, GID: a.gid, Name: string(a.name), Home: string(a.home)}
}

type membership struct {
	name, members []byte
	gid           uint32
}

var newline = []byte("\n")

// whole cuts a file to MaxAccountFile, at the end of a line: half an entry may
// be another entry.
func whole(file []byte) []byte {
	if len(file) <= MaxAccountFile {
		return file
	}
	file = file[:MaxAccountFile]
	return file[:bytes.LastIndexByte(file, '\n')+1]
}

func findUID(passwd []byte, uid uint32) (account, bool) {
	return findAccount(passwd, func(a account) bool { return a.uid == uid })
}

// findAccount returns the first entry that matches, as getpwent(3) finds it.
func findAccount(passwd []byte, match func(account) bool) (account, bool) {
	for line := range bytes.SplitSeq(passwd, newline) {
		if a, ok := parseAccount(line); ok && match(a) {
			return a, true
		}
	}
	return account{}, false
}

// parseAccount parses name:password:uid:gid:comment:home:shell. A line that is
// anything else is no entry; an empty number is not taken for 0, which is root.
func parseAccount(line []byte) (account, bool) {
	var f [7][]byte
	if !splitFields(line, f[:]) {
		return account{}, false
	}
	uid, uidOK := parseID(f[2])
	gid, gidOK := parseID(f[3])
	return account{name: f[0], home: f[5], uid: uid, gid: gid}, uidOK && gidOK
}

// parseMembership parses name:password:gid:members.
func parseMembership(line []byte) (membership, bool) {
	var f [4][]byte
	if !splitFields(line, f[:]) {
		return membership{}, false
	}
	gid, ok := parseID(f[2])
	return membership{name: f[0], members: f[3], gid: gid}, ok
}

// splitFields fills fields from a line, the last one with all that is left. It
// reports false for a comment, a line without a name and one with fewer fields.
func splitFields(line []byte, fields [][]byte) bool {
	if len(line) == 0 || line[0] == '#' || line[0] == ':' {
		return false
	}
	last := len(fields) - 1
	for i := range last {
		var ok bool
		if fields[i], line, ok = bytes.Cut(line, []byte(":")); !ok {
			return false
		}
	}
	fields[last] = line
	return true
}

// parseID parses a user or group number. Ten digits are enough for 32 bits;
// zeros may lead, but not by the megabyte.
func parseID(field []byte) (uint32, bool) {
	if len(field) == 0 || len(field) > 32 || field[0] == '+' {
		return 0, false
	}
	n, ok := parseUint(string(field), 10, 32)
	return uint32(n), ok
}

// lists reports whether user is among the members.
func (g membership) lists(user string) bool {
	for member := range bytes.SplitSeq(g.members, []byte(",")) {
		if string(member) == user {
			return true
		}
	}
	return false
}
