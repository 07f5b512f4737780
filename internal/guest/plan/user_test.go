package plan

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	passwdFile = `# accounts
root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
alice:x:1001:1001:again:/home/second:/bin/sh
short:x:1002:1002
nohome:x:1003:1003:::
noid:x::0::/:
negative:x:-1:0::/:
big:x:4294967296:0::/:
plus:x:+7:0::/:
last:x:2000:2000::/home/last:/bin/a:b`
	groupFile = `root:x:0:root
# alice is here: in a comment
tty:x:10:bob,alice
#devs:x:3000:alice
devs:x:2000:alice,alice
malice:x:30:malice
empty:x:40:
bad:x::alice
short:x:50
users:x:1000:alicea,alic
number:x:60:1000
`
)

func TestResolveUser(t *testing.T) {
	none := Credential{Name: "root", Home: "/root"}
	root := Credential{Switch: true, Groups: []uint32{0, 0}, Name: "root", Home: "/root"}
	alice := Credential{Switch: true, UID: 1000, GID: 1000, Groups: []uint32{1000, 10, 2000}, Name: "alice", Home: "/home/alice"}
	with := func(c Credential, gid uint32, groups ...uint32) Credential {
		c.GID, c.Groups = gid, groups
		return c
	}
	stranger := func(uid, gid uint32) Credential { return Credential{Switch: true, UID: uid, GID: gid} }
	for _, c := range []struct {
		spec string
		want Credential
	}{
		{"", none},
		{" \t\n", none},
		{"root", root},
		{"0", root},
		{"alice", alice},
		{" alice ", alice},
		{"1000", alice},
		{"01000", alice},
		{"+1000", alice},
		{"alice:devs", with(alice, 2000, 2000, 10, 2000)},
		{"alice:10", with(alice, 10, 10, 10, 2000)},
		{" 1000 : 7 ", with(alice, 7, 7, 10, 2000)},
		{"alice:4294967295", with(alice, 4294967295, 4294967295, 10, 2000)},
		{"1001", Credential{Switch: true, UID: 1001, GID: 1001, Groups: []uint32{1001, 10, 2000}, Name: "alice", Home: "/home/second"}},
		{"1002", stranger(1002, 0)},
		{"4242", stranger(4242, 0)},
		{"4242:devs", stranger(4242, 2000)},
		{"4294967295", stranger(4294967295, 0)},
		{"7", stranger(7, 0)},
		{"nohome", Credential{Switch: true, UID: 1003, GID: 1003, Groups: []uint32{1003}, Name: "nohome"}},
		{"last", Credential{Switch: true, UID: 2000, GID: 2000, Groups: []uint32{2000}, Name: "last", Home: "/home/last"}},
	} {
		got, err := ResolveUser(c.spec, []byte(passwdFile), []byte(groupFile))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v\nwant %+v", c.spec, got, err, c.want)
		}
	}
}

// TestResolveUserErrors holds the texts that reach hosts.
func TestResolveUserErrors(t *testing.T) {
	for _, c := range []struct {
		spec, text string
		is         error
	}{
		{"bob", "guest user not found: bob", ErrUserNotFound},
		{" bob : devs", "guest user not found: bob", ErrUserNotFound},
		{"short", "guest user not found: short", ErrUserNotFound},
		{"noid", "guest user not found: noid", ErrUserNotFound},
		{"negative", "guest user not found: negative", ErrUserNotFound},
		{"big", "guest user not found: big", ErrUserNotFound},
		{"plus", "guest user not found: plus", ErrUserNotFound},
		{"-1", "guest user not found: -1", ErrUserNotFound},
		{"++1", "guest user not found: ++1", ErrUserNotFound},
		{"1_000", "guest user not found: 1_000", ErrUserNotFound},
		{"0x0", "guest user not found: 0x0", ErrUserNotFound},
		{"4294967296", "guest user not found: 4294967296", ErrUserNotFound},
		{"# accounts", "guest user not found: # accounts", ErrUserNotFound},
		{"alice:nobody", "guest group not found: nobody", ErrGroupNotFound},
		{"alice:bad", "guest group not found: bad", ErrGroupNotFound},
		{"alice:short", "guest group not found: short", ErrGroupNotFound},
		{"alice:#devs", "guest group not found: #devs", ErrGroupNotFound},
		{"alice:4294967296", "guest group not found: 4294967296", ErrGroupNotFound},
		{"alice:devs:x", "guest group not found: devs:x", ErrGroupNotFound},
		{":devs", "user spec has empty user", ErrEmptyUser},
		{" : ", "user spec has empty user", ErrEmptyUser},
		{"alice:", "user spec has empty group", ErrEmptyGroup},
		{"nobody: ", "user spec has empty group", ErrEmptyGroup},
	} {
		got, err := ResolveUser(c.spec, []byte(passwdFile), []byte(groupFile))
		if !errors.Is(err, c.is) || err.Error() != c.text || !reflect.DeepEqual(got, Credential{}) {
			t.Errorf("%q: %+v, %v, want %s", c.spec, got, err, c.text)
		}
	}
}

// TestResolveUserWithoutFiles is a root file system without accounts.
func TestResolveUserWithoutFiles(t *testing.T) {
	for spec, want := range map[string]Credential{"": {}, "0": {Switch: true}, "5:6": {Switch: true, UID: 5, GID: 6}} {
		if got, err := ResolveUser(spec, nil, nil); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", spec, got, err)
		}
	}
}

// TestResolveUserHostileFiles bounds the work that an image can cause.
func TestResolveUserHostileFiles(t *testing.T) {
	const entry = "alice:x:1000:1000::/h:/s\n"
	past := slices.Concat(bytes.Repeat([]byte("\n"), MaxAccountFile), []byte(entry))
	cut := slices.Concat(bytes.Repeat([]byte("\n"), MaxAccountFile-len(entry)+1), []byte(entry))
	var many []byte
	for i := range maxGroups {
		many = append(many, "g:x:"+strconv.Itoa(i)+":alice\n"...)
	}
	alice := []byte(entry)
	for _, c := range []struct {
		name          string
		passwd, group []byte
		want          error
	}{
		{"one endless line", bytes.Repeat([]byte("a"), 64<<20), nil, ErrUserNotFound},
		{"nothing but colons", bytes.Repeat([]byte(":"), 64<<20), nil, ErrUserNotFound},
		{"nothing but lines", bytes.Repeat([]byte("\n"), 64<<20), nil, ErrUserNotFound},
		{"entry after the bound", past, nil, ErrUserNotFound},
		{"entry cut by the bound", cut, nil, ErrUserNotFound},
		{"endless number", []byte("alice:x:" + strings.Repeat("0", 1<<20) + ":0::/:\n"), nil, ErrUserNotFound},
		{"too many groups", alice, many, ErrTooManyGroups},
		{"endless members", alice, append([]byte("g:x:1:"), bytes.Repeat([]byte("b,"), 32<<20)...), nil},
		{"as many groups as fit", alice, many[bytes.IndexByte(many, '\n')+1:], nil},
	} {
		start := time.Now()
		if _, err := ResolveUser("alice", c.passwd, c.group); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		// Three scans of 8 MiB take some 100 ms without any luck; the rest is
		// room for a loaded machine and the race detector.
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: took %v", c.name, d)
		}
	}
}

func TestParseUserSpec(t *testing.T) {
	for in, want := range map[string]UserSpec{
		"": {}, "  ": {}, "a": {User: "a"}, " a : b ": {User: "a", Group: "b"}, "a:b:c": {User: "a", Group: "b:c"},
	} {
		if got, err := ParseUserSpec(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}
