package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
)

// A load is the configuration of a measured boot.
type load struct {
	name  string
	words []string        // For an agent that is configured by variables.
	told  *wire.Bootstrap // For an agent that is configured by a message.
	full  bool            // Disks for the root, a network card, a share to mount, an authority.
}

var loads = []load{
	{name: "plain", words: []string{"MSB_SECURITY_PROFILE=default"}, told: &wire.Bootstrap{}},
	{name: "full", words: fullWords, told: &fullMessage, full: true},
}

// shareTag is the tag of the one share for which a machine of eight slots has room:
// console, entropy, root, runtime share, two disks and the card take the others.
const shareTag, shareFile = "data_bd47413b", "app.conf"

// fullWords and fullMessage are the same configuration: a layered root, eight mounts
// and a network.
var fullWords = []string{
	"MSB_BLOCK_ROOT=kind=oci-erofs,lower=/dev/vda,upper=/dev/vdb,upper_fstype=ext4", "MSB_SECURITY_PROFILE=default",
	"MSB_DIR_MOUNTS=" + shareTag + ":/data", "MSB_FILE_MOUNTS=" + shareTag + ":" + shareFile + ":/etc/" + shareFile + ":ro",
	"MSB_TMPFS=/tmp:size=64;/cache:size=64,noexec,nosuid,nodev;/a:size=16;/b/c:size=16;/d:size=16;/srv/e:size=16",
	"MSB_HOSTNAME=web-1", "MSB_HOST_ALIAS=host.microsandbox.internal",
	"MSB_NET=iface=eth0,mac=02:6d:73:00:2a:02,mtu=1500",
	"MSB_NET_IPV4=addr=172.16.0.170/30,gw=172.16.0.169,dns=172.16.0.169",
	"MSB_NET_IPV6=addr=fd42:6d73:62:2a::2/64,gw=fd42:6d73:62:2a::1,dns=fd42:6d73:62:2a::1",
}

var (
	gateway4 = [4]byte{172, 16, 0, 169}
	gateway6 = [16]byte{0xfd, 0x42, 0x6d, 0x73, 0, 0x62, 0, 0x2a, 15: 1}

	fullMessage = wire.Bootstrap{
		BlockRoot:  &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}},
		DirMounts:  []wire.DirMount{{Tag: shareTag, GuestPath: "/data"}},
		FileMounts: []wire.FileMount{{Tag: shareTag, Filename: shareFile, GuestPath: "/etc/" + shareFile, Flags: wire.MountFlags{ReadOnly: true}}},
		TmpfsMounts: []wire.TmpfsMount{
			{Path: "/tmp", SizeMiB: new(uint32(64))},
			{Path: "/cache", SizeMiB: new(uint32(64)), Flags: wire.MountFlags{NoExec: true, NoSuid: true, NoDev: true}},
			{Path: "/a", SizeMiB: new(uint32(16))},
			{Path: "/b/c", SizeMiB: new(uint32(16))},
			{Path: "/d", SizeMiB: new(uint32(16))},
			{Path: "/srv/e", SizeMiB: new(uint32(16))},
		},
		Hostname: new("web-1"), HostAlias: new("host.microsandbox.internal"), SecurityProfile: wire.ProfileDefault,
		Network: &wire.Network{
			Interface: "eth0", MAC: [6]byte{2, 109, 115, 0, 42, 2}, MTU: 1500,
			IPv4: &wire.IPv4{Address: [4]byte{172, 16, 0, 170}, PrefixLen: 30, Gateway: gateway4, DNS: &gateway4},
			IPv6: &wire.IPv6{Address: [16]byte{0xfd, 0x42, 0x6d, 0x73, 0, 0x62, 0, 0x2a, 15: 2}, PrefixLen: 64, Gateway: gateway6, DNS: &gateway6},
		},
	}
)

// A bootRun measures only boots.
type bootRun struct {
	*rig
	*results
	lower, upper string // Disks; each machine gets its own copy of the upper.
	authority    []byte
}

// boots starts each agent n times with each load, in turn, and prints the figures. Ours
// is configured in the same ways as the published ones.
func (r *rig) boots(ctx context.Context, o options, agents []*opponent) (err error) {
	b := &bootRun{rig: r, results: newResults(base(o.architecture))}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	agents = bothWays(agents)
	for i := 0; i < o.boots && err == nil; i++ {
		turned := append(slices.Clone(agents[i%len(agents):]), agents[:i%len(agents)]...)
		err = b.each(ctx, o, turned)
	}
	var w strings.Builder
	for _, l := range loads {
		b.printBoots(&w, l, agents)
	}
	fmt.Print(w.String())
	return err
}

// bothWays lists our agent once for each way of configuration.
func bothWays(agents []*opponent) (all []*opponent) {
	for _, a := range agents {
		all = append(all, a)
		if a.name == ourName {
			again := *a
			again.name, again.environment = byVariables, true
			all = append(all, &again)
		}
	}
	return all
}

func (b *bootRun) each(ctx context.Context, o options, agents []*opponent) error {
	for _, l := range loads {
		for _, a := range agents {
			if len(o.only) > 0 && !slices.Contains(o.only, l.name) {
				continue
			}
			if err := b.one(ctx, l, a); err != nil {
				return fmt.Errorf("%s boot of %s: %w", l.name, a.name, err)
			}
		}
	}
	return ctx.Err()
}

// one boots one machine and ends it.
func (b *bootRun) one(ctx context.Context, l load, a *opponent) error {
	m, err := b.startLoad(ctx, l, a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bootDeadline)
	defer cancel()
	if _, err := m.greet(ctx, l.told); err != nil {
		return errors.Join(fmt.Errorf("%w; console:\n%s", err, m.vm.Console()), m.end())
	}
	b.add(l.name+" start", a.name, float64(m.ready.BootTimeNS)/1e6)
	b.add(l.name+" init_time_ns", a.name, float64(m.ready.InitTimeNS)/1e6)
	b.add(l.name+" ready", a.name, float64(m.ready.ReadyTimeNS)/1e6)
	for step, took := range steps(string(m.vm.Console())) {
		b.add(l.name+" step "+step, a.name, took)
	}
	return m.end()
}

var stepLine = regexp.MustCompile(`agentd: step (.+) took (\S+)`)

// steps returns the milliseconds of each step on the console; steps with the same name
// are added up.
func steps(console string) map[string]float64 {
	all := map[string]float64{}
	for _, found := range stepLine.FindAllStringSubmatch(console, -1) {
		if took, err := time.ParseDuration(strings.TrimSpace(found[2])); err == nil {
			all[found[1]] += took.Seconds() * 1e3
		}
	}
	return all
}

// startLoad starts a machine of the load.
func (b *bootRun) startLoad(ctx context.Context, l load, a *opponent) (*machine, error) {
	var words []string
	if strings.HasPrefix(a.name, ourName) {
		words = append(words, "AGENTD_DEBUG=boot") // Printed after the measured interval.
	}
	if a.environment {
		words = append(words, l.words...)
	}
	var furnish func(string, *vmm.Machine) error
	if l.full {
		furnish = b.furnish
	}
	m, err := b.startWith(ctx, a.binary, words, furnish)
	if err == nil {
		m.agent = a
	}
	return m, err
}

// furnish adds the devices and files of the full load.
func (b *bootRun) furnish(dir string, m *vmm.Machine) error {
	upper, data, tls := filepath.Join(dir, "upper"), filepath.Join(dir, "data"), filepath.Join(dir, "share", "tls")
	m.Card = true
	m.Disks = []vmm.Disk{{Path: b.lower, ReadOnly: true}, {Path: upper}}
	m.Shares = append(m.Shares, vmm.Share{Tag: shareTag, Dir: data, Private: true})
	return errors.Join(
		image.CopyDisk(upper, b.upper),
		os.MkdirAll(data, 0o755), os.MkdirAll(tls, 0o755), //nolint:gosec // The guest's users read it.
		os.WriteFile(filepath.Join(data, shareFile), []byte("conf\n"), 0o600),
		os.WriteFile(filepath.Join(tls, "ca.pem"), b.authority, 0o600),
	)
}
