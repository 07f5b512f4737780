package boot_test

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
)

// ip configures the network behind the agent.
func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func ethernet() plan.Interface {
	return plan.Interface{
		Device: "eth0", MAC: plan.MAC{0x02, 0x6d, 0x73, 0, 0x2a, 0x02}, MTU: 1400,
		IPv4: plan.Address{Prefix: netip.MustParsePrefix("172.16.0.170/30"), Gateway: netip.MustParseAddr("172.16.0.169")},
		IPv6: plan.Address{Prefix: netip.MustParsePrefix("fd42:6d73:62:2a::2/64"), Gateway: netip.MustParseAddr("fd42:6d73:62:2a::1")},
	}
}

// checkEthernet says that eth0 is as the plan wants it.
func checkEthernet(t *testing.T) {
	t.Helper()
	i, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if i.HardwareAddr.String() != "02:6d:73:00:2a:02" || i.MTU != 1400 || i.Flags&net.FlagUp == 0 {
		t.Errorf("eth0 is %+v", i)
	}
	addrs, err := i.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"172.16.0.170/30", "fd42:6d73:62:2a::2/64"} {
		if !slices.ContainsFunc(addrs, func(a net.Addr) bool { return a.String() == want }) {
			t.Errorf("eth0 has %v, not %s", addrs, want)
		}
	}
	if list := ip(t, "-6", "addr", "show", "dev", "eth0", "scope", "global"); strings.Contains(list, "tentative") {
		t.Errorf("an address cannot be used yet:\n%s", list)
	}
	for family, want := range map[string]string{
		"-4": "default via 172.16.0.169 dev eth0", "-6": "default via fd42:6d73:62:2a::1 dev eth0",
	} {
		if routes := ip(t, family, "route", "show"); strings.Count(routes, "default") != 1 || !strings.Contains(routes, want) {
			t.Errorf("routes\n%swant %s", routes, want)
		}
	}
}

// The interface, twice: what is as wanted already is no error.
func TestInterface(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		ip(t, "link", "add", "name", "eth0", "type", "veth")
		ip(t, "link", "set", "veth0", "up") // The other end, for a carrier.
		for range 2 {
			mustUp(t, only(plan.Loopback{}, ethernet()))
			checkEthernet(t)
		}
	})
}

// A device may come late.
func TestLateInterface(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		timer := time.AfterFunc(200*time.Millisecond, func() {
			if err := exec.CommandContext(t.Context(), "ip", "link", "add", "name", "eth0", "type", "veth").Run(); err != nil {
				t.Error(err) // Not Fatal: this is no goroutine of the test's.
			}
		})
		defer timer.Stop()
		mustUp(t, only(ethernet()))
	})
}

func TestInterfaceOdd(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		ip(t, "link", "add", "name", "eth0", "type", "veth")
		// Another prefix of the address is not the address.
		ip(t, "addr", "add", "fd42:6d73:62:2a::2/48", "dev", "eth0")
		_, err := up(t, only(ethernet()))
		const want = "step interface: add address fd42:6d73:62:2a::2/64 to eth0: file exists: with another prefix"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		ip(t, "addr", "flush", "dev", "eth0")
		// Other ways out give way, a gateway may lie outside of the prefix, and
		// there may be one family, or none.
		ip(t, "link", "set", "eth0", "up")
		ip(t, "addr", "add", "10.0.0.2/24", "dev", "eth0")
		ip(t, "route", "add", "default", "via", "10.0.0.1")
		s := ethernet()
		s.IPv6 = plan.Address{}
		s.IPv4 = plan.Address{Prefix: netip.MustParsePrefix("172.16.0.2/32"), Gateway: netip.MustParseAddr("172.16.9.9")}
		mustUp(t, only(s))
		if routes := ip(t, "route"); strings.Count(routes, "default") != 1 || !strings.Contains(routes, "default via 172.16.9.9 dev eth0") {
			t.Errorf("routes\n%s", routes)
		}
		s.IPv4, s.MTU = plan.Address{}, 1300
		mustUp(t, only(s))
		s.MAC[0] = 1 // A multicast address belongs to no interface.
		if _, err := up(t, only(s)); err == nil || !strings.Contains(err.Error(), "set the hardware address of eth0 to 016d73002a02: ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestNoInterface(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		_, err := up(t, only(ethernet()))
		const want = "step interface: after 5s: no such network device: eth0 (the host has to attach it"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	})
}

// The whole file is written, in place of whatever is there.
func TestResolver(t *testing.T) {
	const content = "nameserver 172.16.0.169\n"
	nstest.Run(t, func() {
		nstest.Root(t)
		for name, plant := range map[string]func(*testing.T){
			"missing":           func(*testing.T) {},
			"file":              func(t *testing.T) { t.Helper(); write(t, "/etc/resolv.conf", strings.Repeat("search old\n", 99)) },
			"link":              linked(outside+"/file", "/etc/resolv.conf"),
			"dangling link":     linked("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"),
			"link to a missing": linked(outside+"/new", "/etc/resolv.conf"),
			"link to itself":    linked("resolv.conf", "/etc/resolv.conf"),
			"fifo":              fifo("/etc/resolv.conf"),
		} {
			t.Run(name, func(t *testing.T) {
				freshRoot(t)
				write(t, outside+"/file", "outside\n")
				plant(t)
				before := snapshot(t)
				mustUp(t, only(plan.Resolver{Content: content}))
				if st, err := os.Lstat("/etc/resolv.conf"); err != nil || st.Mode() != 0o644 || read(t, "/etc/resolv.conf") != content {
					t.Errorf("got %v, %v", st, err)
				}
				if after := snapshot(t); after != before {
					t.Errorf("outside was\n%sand is\n%s", before, after)
				}
				if _, err := os.Lstat(filepath.Join("/run", "systemd")); !errors.Is(err, fs.ErrNotExist) {
					t.Error("the link's directory was made")
				}
			})
		}
	})
}
