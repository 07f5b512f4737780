package sandbox_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/sandbox"
)

// partitioned writes a disk of some sectors whose first partition begins at sector 8.
func partitioned(t *testing.T, path string, sectors int64) {
	t.Helper()
	const entry, signature = 446, 510 // Of a master boot record.
	mbr := make([]byte, 512)
	mbr[entry+4] = 0x83
	binary.LittleEndian.PutUint32(mbr[entry+8:], 8)
	binary.LittleEndian.PutUint32(mbr[entry+12:], uint32(sectors-8))
	mbr[signature], mbr[signature+1] = 0x55, 0xAA
	if err := os.WriteFile(path, mbr, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, sectors*512); err != nil {
		t.Fatal(err)
	}
}

// A machine with disks of its own starts from a template too: the guest sees the size, the
// partitions and the content of each, under the name that it has after a boot.
func TestDisksOfItsOwn(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			ownTemplates(t)
			dir := t.TempDir()
			cfg := warm(t, kernel)
			cfg.Image, cfg.Upper.SizeMiB = erofs(t, busyboxRoot(t)), 65<<10 // Larger than a template's disk.
			for i, kind := range []string{"data", "parts", "copied"} {
				cfg.Disks = append(cfg.Disks, sandbox.Disk{Path: filepath.Join(dir, kind)})
				partitioned(t, cfg.Disks[i].Path, int64(4096+8*i))
			}
			cfg.Disks[0].Target, cfg.Disks[1].ReadOnly, cfg.Disks[2].Format = "/data", true, sandbox.Qcow2
			tool(t, "qemu-img", "create", "-q", "-f", "qcow2", cfg.Disks[2].Path, "3M")
			const look = `cd /sys/block; for d in vdb vdc vdd vde; do echo $d $(cat $d/size $d/ro) $(ls $d | grep ^vd); done
				ls /data; echo >/data/seen; echo x >/dev/vde && head -n 1 /dev/vde`
			var sees string
			for range 2 {
				cfg.Disks[0].Path = ext4(t, "")
				m := startWarm(t, cfg)
				if why := m.Cold(); why != nil {
					t.Fatal(why)
				}
				last := sees
				if sees = output(t, m, look); last != "" && sees != last {
					t.Errorf("one guest sees\n%s\nand the next\n%s", last, sees)
				}
				stop(t, m)
			}
			for _, want := range []string{"vdb 136314880 0", "vdc 65536 0", "vdd 4104 1 vdd1", "vde 6144 0"} {
				if !strings.Contains(sees, want+"\n") {
					t.Errorf("the guest sees %q, want %q", sees, want)
				}
			}
		})
	}
}

// A root that is a disk of its own has its own size, too. And the small root's disks come after
// the others, so that these have the same names as beside a shared root.
func TestRootThatIsADisk(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			ownTemplates(t)
			image, small := warm(t, kernel), warm(t, kernel)
			image.Image = ext4(t, busyboxRoot(t))
			small.Disks = []sandbox.Disk{{Path: ext4(t, "")}}
			for _, cfg := range []sandbox.Config{image, small} {
				m := startWarm(t, cfg)
				if why := m.Cold(); why != nil {
					t.Fatal(why)
				}
				if got := output(t, m, "cat /sys/block/vda/size; echo x >/x; sync; cat /x"); got != "65536\nx" {
					t.Errorf("%q, want the disk's 65536 sectors", got)
				}
				stop(t, m)
			}
		})
	}
}

// A machine that has room for its disks beside shared directories, but not beside the disks of
// a template, boots.
func TestDisksWithoutRoom(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			ownTemplates(t)
			cfg := warm(t, kernel)
			for range 4 {
				cfg.Disks = append(cfg.Disks, sandbox.Disk{Path: ext4(t, "")})
			}
			m := startWarm(t, cfg)
			if got := output(t, m, "ls /sys/block | grep -c ^vd"); got < "4" {
				t.Errorf("%s disks, want 4 and those of the root", got)
			}
		})
	}
}
