package plan

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// fromWords reads variables as FromEnvironment does, without making a plan of them.
func fromWords(words []string) (c config, rejected *Error) {
	for _, v := range variables() {
		if e := v.apply(&c, lookup(words, v.name)); e != nil {
			return c, e
		}
	}
	return c, nil
}

// same reports what the two ways of a configuration have said differently: nothing may
// be. Mounts are compared in one order, and without their places in the message. That the
// upper's path is registered is by message alone (boot section 11).
func same(words, message config) (differences []string) {
	if registered(words.root) || message.root != nil && message.root.OCI != nil && !registered(message.root) {
		differences = append(differences, "metrics")
	}
	if registered(message.root) {
		message.root.OCI.Metrics = false
	}
	for _, c := range []*config{&words, &message} {
		slices.SortStableFunc(c.mounts, func(a, b userMount) int {
			return strings.Compare(a.path+a.source, b.path+b.source)
		})
		for i := range c.mounts {
			c.mounts[i].field = ""
		}
	}
	for name, pair := range map[string][2]any{
		"root": {words.root, message.root}, "mounts": {words.mounts, message.mounts}, "hostname": {words.hostname, message.hostname},
		"alias": {words.alias, message.alias}, "device": {words.device, message.device}, "IPv4": {words.ipv4, message.ipv4},
		"IPv6": {words.ipv6, message.ipv6}, "limits": {words.limits, message.limits}, "user": {words.user, message.user},
		"profile": {words.restricted, message.restricted}, "init": {words.handover, message.handover},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			differences = append(differences, name)
		}
	}
	return differences
}

func registered(root *BlockRoot) bool { return root != nil && root.OCI != nil && root.OCI.Metrics }

// FuzzWords holds that what Encode says by variables is what the message says.
func FuzzWords(f *testing.F) {
	f.Add("web", "alice:devs", "data", "/data", "file", "ext4", "nofile", "eth0", "/sbin/init", "a b", uint64(5), uint64(6), uint32(64), uint8(0xff))
	f.Add("", "", "a", "/a,b", "f g", "", "CPU", "", "auto", "", uint64(0), ^uint64(0), uint32(0o1777), uint8(0))
	f.Add("0", "0", "0", "/0", "0", "=", "nofile", "0", "/", "0", uint64(5), uint64(6), uint32(64), uint8(0x40))
	f.Fuzz(func(t *testing.T, name, user, tag, path, file, fstype, resource, device, init, arg string, soft, hard uint64, n uint32, flags uint8) {
		b := bootstrapOf(name, user, tag, path, file, fstype, resource, device, init, arg, soft, hard, n, flags)
		words, err := bootenv.Encode(b)
		if err != nil {
			t.Skip(err)
		}
		want, err := FromBootstrap(b, nil)
		got, rejected := fromWords(words)
		if err != nil {
			return // By words the same may be sound: a name around which space was cut, say.
		}
		if rejected != nil {
			t.Fatalf("the message is taken, and %q are not: %s\n%s", words, rejected.Rule, want)
		}
		if different := same(got, readMessage(b).config); different != nil {
			t.Fatalf("%q say something else of %q\n%s", words, different, want)
		}
	})
}

// readMessage reads a message as FromBootstrap does, without making a plan of it.
func readMessage(b *wire.Bootstrap) *message {
	m := &message{}
	m.read(b, nil)
	return m
}

func bootstrapOf(
	name, user, tag, path, file, fstype, resource, device, init, arg string, soft, hard uint64, n uint32, flags uint8,
) *wire.Bootstrap {
	has := func(bit int) bool { return flags&(1<<bit) != 0 }
	all := wire.MountFlags{ReadOnly: has(0), NoExec: has(1), NoSuid: has(2), NoDev: has(3)}
	b := &wire.Bootstrap{
		Hostname: &name, User: &user,
		DirMounts:   []wire.DirMount{{Tag: tag, GuestPath: path, Flags: all}},
		FileMounts:  []wire.FileMount{{Tag: tag, Filename: file, GuestPath: path + "/f", Flags: all}},
		DiskMounts:  []wire.DiskMount{{ID: tag, GuestPath: path + "/disk", FSType: &fstype, Flags: all}},
		TmpfsMounts: []wire.TmpfsMount{{Path: path + "/tmp", SizeMiB: &n, Mode: &n, Flags: all}},
		Rlimits:     []wire.Rlimit{{Resource: resource, Soft: soft, Hard: hard}},
	}
	if has(4) {
		b.SecurityProfile = wire.ProfileRestricted
		b.BlockRoot = &wire.DiskImage{Device: path, FSType: &fstype}
	} else if has(5) {
		b.BlockRoot = &wire.OCIErofs{Lower: path, Upper: &wire.UpperDevice{Device: path + "b", FSType: fstype}}
	}
	if has(6) {
		b.HandoffInit = &wire.HandoffInit{Cmd: init, Args: []string{arg, file}, Env: []wire.EnvVar{{Key: tag, Value: arg}}}
	}
	if has(7) {
		b.Network = &wire.Network{
			Interface: device, MAC: [6]byte{2, byte(n)}, MTU: uint16(n),
			IPv4: &wire.IPv4{Address: [4]byte{10, byte(n)}, PrefixLen: uint8(soft), Gateway: [4]byte{byte(hard)}, DNS: &[4]byte{1}},
			IPv6: &wire.IPv6{Address: [16]byte{0xfd, byte(n)}, PrefixLen: uint8(hard), Gateway: [16]byte{0xfd, byte(soft)}},
		}
	}
	return b
}
