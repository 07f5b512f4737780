package plan

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// The faults of a user spec. The host gets these texts; the first two are followed by
// the name that was not found.
var (
	ErrUserNotFound  = errors.New("guest user not found")
	ErrGroupNotFound = errors.New("guest group not found")
	ErrEmptyUser     = errors.New("user spec has empty user")
	ErrEmptyGroup    = errors.New("user spec has empty group")
	ErrTooManyGroups = errors.New("guest user is in too many groups")
)

// UserSpec is a user as a host names it: USER[:GROUP], by names or numbers. The zero
// value names no user, and a command runs as root like the agent.
type UserSpec struct {
	User  string
	Group string // empty: the group of the user
}

// ParseUserSpec splits a spec at its first colon and trims both parts. For a blank spec
// it returns the zero value.
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

// checkUser is the rule for a configured user. It cannot check whether the user exists,
// because the root is not mounted yet.
func checkUser(s string) string {
	switch _, err := ParseUserSpec(s); {
	case errors.Is(err, ErrEmptyUser):
		return "must have a user before the colon"
	case errors.Is(err, ErrEmptyGroup):
		return "must have a group after the colon"
	}
	return ""
}

// Credential is the user and the groups as which a command runs.
type Credential struct {
	// Switch is false for the blank spec: no id and no group is changed.
	Switch   bool
	UID, GID uint32
	// Groups are the supplementary groups as initgroups(3) sets them: GID, then
	// each group that lists the user, so that one may be there twice. They are
	// empty for a user without an entry in the password file.
	Groups []uint32
	// Name and Home come from the entry in the password file. They are empty without
	// one.
	Name, Home string
}

// Bounds on files whose content the image decides.
const (
	// MaxAccountFile is how many bytes of a passwd or group file are read. A hundred
	// thousand entries fit, and take some milliseconds. Later entries are ignored.
	MaxAccountFile = 8 << 20
	// maxGroups is the most groups that setgroups(2) accepts (NGROUPS_MAX).
	maxGroups = 65536
)

// ResolveUser finds who spec is, in the contents of /etc/passwd and /etc/group.
// A number need not have an entry: such a user has the group 0 unless the spec names
// one. The number 4294967295 is accepted too, but the kernel refuses to switch to it.
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

// credential returns the credential of uid from its entry. A zero entry gives group 0,
// the agent's group.
func (a account) credential(uid uint32) Credential {
	return Credential{Switch: true, UID: uid, GID: a.gid, Name: string(a.name), Home: string(a.home)}
}

type membership struct {
	name, members []byte
	gid           uint32
}

var newline = []byte("\n")

// whole cuts a file to MaxAccountFile at the end of a line, because a part of an entry
// may look like another entry.
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

// parseAccount parses name:password:uid:gid:comment:home:shell. Any other line is no
// entry. An empty number is refused, because reading it as 0 would mean root.
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

// splitFields splits a line into fields; the last one gets the rest of the line. It
// reports false for a comment, a line without a name, and a line with too few fields.
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

// parseID parses a user or group number of at most 32 characters. Ten digits are enough
// for 32 bits, and zeros may lead.
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
