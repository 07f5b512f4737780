package vmm

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew); got:\n%s", path, got)
	}
}

// oneOption puts each option and its value on a line of its own.
func oneOption(args []string) string {
	var b strings.Builder
	for i, a := range args {
		switch {
		case i == 0:
		case strings.HasPrefix(a, "-"):
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String() + "\n"
}

// The machines of the golden files; each has passed Check.
func machines() map[string]Machine {
	minimal := Machine{Architecture: AMD64, Kernel: "/k/vmlinux", CPUs: 1, MemoryMiB: 512}
	debian := Machine{
		Architecture: AMD64, Kernel: "/k/vmlinuz", Initrd: "/k/initrd.img", CPUs: 1, MemoryMiB: 512, Accel: TCG, TSCkHz: 2596146, TSCSteady: true,
		ACPI: true, Console: Serial, Cmdline: []string{"rdinit=/init", "MSB_X=a b"},
	}
	full := Machine{
		Architecture: AMD64, Kernel: "/k/vmlinux", CPUs: 2, MemoryMiB: 1024,
		Cmdline: []string{"root=/dev/root", "rootfstype=virtiofs", "rw", "init=/init.krun", "MSB_X=a b"},
		Shares:  []Share{{Tag: "/dev/root", Dir: "/srv/root"}, {Tag: "data,1", Dir: "/srv/data", ReadOnly: true}},
		Disks: []Disk{
			{Path: "/d/lower,1.img", Serial: "lower", ReadOnly: true},
			{Path: "/d/upper.qcow2", Serial: "upper,1", Format: Qcow2},
			{Path: "/d/scratch.img"},
		},
		Card: true, Records: true,
	}
	tapped := debian
	tapped.TranslationMiB = 32
	tapped.Records, tapped.Taps = true, []Tap{{Name: "tap0", MAC: [6]byte{2, 0, 0, 0, 0, 1}}, {Name: "tap1", MAC: [6]byte{2, 0, 0, 0, 0, 2}}}
	kvm := minimal
	kvm.Accel, kvm.TSCkHz, kvm.TranslationMiB = KVM, 2596146, 32 // Which KVM does not need.
	all := map[string]Machine{"minimal": minimal, "debian": debian, "full": full, "tapped": tapped, "kvm": kvm}
	for name, m := range maps.Clone(all) {
		m.Architecture = ARM64
		all[name+"-arm64"] = m
	}
	return all
}

func TestQEMUArgs(t *testing.T) {
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			if err := m.Check(); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".args", oneOption(m.QEMUArgs(inheritedPaths(m))))
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	share := func(tag string) Share { return Share{Tag: tag, Dir: "/d"} }
	for _, c := range []struct {
		name   string
		change func(*Machine)
		want   string
	}{
		{"unknown architecture", func(m *Machine) { m.Architecture = "riscv64" }, "amd64 or arm64"},
		{"too many devices, arm64", func(m *Machine) { m.Architecture, m.Disks = ARM64, make([]Disk, 31) }, "a machine for arm64 has room for 30"},
		{"no kernel", func(m *Machine) { m.Kernel = "" }, "no kernel"},
		{"no CPU", func(m *Machine) { m.CPUs = 0 }, "0 CPUs"},
		{"many CPUs", func(m *Machine) { m.CPUs = 256 }, "256 CPUs"},
		{"little memory", func(m *Machine) { m.MemoryMiB = 63 }, "63 MiB"},
		{"little room for translated code", func(m *Machine) { m.TranslationMiB = 15 }, "15 MiB for translated code: want 16"},
		{"negative host CPU", func(m *Machine) { m.Affinity = []int{-1} }, "host CPU -1"},
		{"long tag", func(m *Machine) { m.Shares = []Share{share(strings.Repeat("t", 37))} }, "1 to 36"},
		{"no tag", func(m *Machine) { m.Shares = []Share{share("")} }, "1 to 36"},
		{"same tag", func(m *Machine) { m.Shares = []Share{share("a"), share("a")} }, `two shares have the tag "a"`},
		{"relative share", func(m *Machine) { m.Shares = []Share{{Tag: "a", Dir: "d"}} }, "absolute"},
		{"relative disk", func(m *Machine) { m.Disks = []Disk{{Path: "d"}} }, "absolute"},
		{"long serial", func(m *Machine) { m.Disks = []Disk{{Path: "/d", Serial: strings.Repeat("s", 21)}} }, "at most 20"},
		{"unknown format", func(m *Machine) { m.Disks = []Disk{{Path: "/d", Format: 7}} }, "format 7"},
		{"too many devices", func(m *Machine) { m.Disks = make([]Disk, 7) }, "has room for 6"},
		{"too many devices, card", func(m *Machine) { m.Card, m.Disks = true, make([]Disk, 6) }, "7 shares, disks and a network card"},
		{"too many devices, tap", func(m *Machine) { m.Taps, m.Disks = make([]Tap, 1), make([]Disk, 6) }, "7 shares, disks and network cards"},
		{"too many devices, ACPI", func(m *Machine) { m.ACPI, m.Disks = true, make([]Disk, 23) }, "has room for 22"},
		{"empty word", func(m *Machine) { m.Cmdline = []string{""} }, "empty"},
		{"quote", func(m *Machine) { m.Cmdline = []string{"ok", `A=say "x"`} }, `word "A=say \"x\"": it holds a quote`},
		{"newline", func(m *Machine) { m.Cmdline = []string{"A=a\nb"} }, `word "A=a\nb": it holds a byte`},
		{"not ASCII", func(m *Machine) { m.Cmdline = []string{"A=é"} }, "not printable"},
		{"no key", func(m *Machine) { m.Cmdline = []string{"=a"} }, "no key"},
		{"space in key", func(m *Machine) { m.Cmdline = []string{"A B=c"} }, "key holds a space"},
		{"init words", func(m *Machine) { m.Cmdline = []string{"--", "x"} }, "needs ACPI"},
		{"long line", func(m *Machine) { m.Cmdline = []string{strings.Repeat("x", 16<<10)} }, "the kernel reads 16383"},
		{"long line, stock", func(m *Machine) { m.ACPI, m.Cmdline = true, []string{strings.Repeat("x", 2030)} }, "the kernel reads 2047"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Machine{Architecture: AMD64, Kernel: "/k", CPUs: 1, MemoryMiB: 64}
			c.change(&m)
			if err := m.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check() = %v, want %q", err, c.want)
			}
		})
	}
}

func TestCheckTakesTheLimits(t *testing.T) {
	m := Machine{
		Architecture: AMD64, Kernel: "/k", CPUs: maxCPUs, MemoryMiB: minMemoryMiB, ACPI: true, Cmdline: []string{"--", "x"},
		Shares: []Share{{Tag: strings.Repeat("t", tagLen), Dir: "/d"}},
	}
	for range slotsACPI - slotsOwn - 1 {
		m.Disks = append(m.Disks, Disk{Path: "/d", Serial: strings.Repeat("s", serialLen)})
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}
