package plan_test

import (
	"encoding/binary"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/plan"
)

// super is the superblock of a file system as mkfs.ext4 makes it: blocks of 4 KiB in groups
// of 128 MiB, 8192 inodes of 256 bytes in each.
func super(change func(b []byte)) []byte {
	b := make([]byte, plan.Ext4SuperSize)
	le := binary.LittleEndian
	le.PutUint32(b[0x4:], 16384) // 64 MiB.
	le.PutUint32(b[0x18:], 2)    // Blocks of 1024 << 2.
	le.PutUint32(b[0x20:], 32768)
	le.PutUint32(b[0x28:], 8192)
	le.PutUint16(b[0x38:], 0xEF53)
	le.PutUint16(b[0x58:], 256)
	le.PutUint32(b[0x5C:], 0x10) // resize_inode
	le.PutUint32(b[0x60:], 0x80) // 64bit
	le.PutUint32(b[0x64:], 0x1)  // sparse_super
	le.PutUint16(b[0xCE:], 7)
	le.PutUint16(b[0xFE:], 64)
	if change != nil {
		change(b)
	}
	return b
}

//holds:wire 16: every refusal has its text
func TestGrow(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	le := binary.LittleEndian
	for _, c := range []struct {
		name   string
		change func(b []byte)
		size   uint64
		err    string
	}{
		{"as it is", nil, 64 * mib, ""},
		{"one group", nil, 128 * mib, ""},
		{"a few groups", nil, 4096 * mib, ""},
		{"a whole number of groups", nil, 640 * mib, ""},
		{"smaller", nil, 32 * mib, "root growth requires a nondecreasing size aligned to 4 KiB"},
		{"nothing", nil, 0, "root growth requires a nondecreasing size aligned to 4 KiB"},
		{"unaligned", nil, 128*mib + 512, "root growth requires a nondecreasing size aligned to 4 KiB"},
		{"small blocks", func(b []byte) { le.PutUint32(b[0x18:], 0) }, 128 * mib, "online growth requires a supported 4 KiB ext4 root"},
		{"no reserve", func(b []byte) { le.PutUint32(b[0x5C:], 0) }, 128 * mib, "root ext4 lacks supported resize-inode metadata; offline preparation is required"},
		{"meta groups", func(b []byte) { le.PutUint32(b[0x60:], 0x90) }, 128 * mib, "root ext4 lacks supported resize-inode metadata; offline preparation is required"},
		{"all of the reserve", nil, 8 * 64 * 128 * mib, ""},
		{"beyond the reserve", nil, 80 << 30, "target exceeds ext4 reserved group-descriptor capacity"},
		{"beyond everything", nil, 1<<64 - 4096, "target exceeds ext4 reserved group-descriptor capacity"},
		{"small end", nil, 129 * mib, "target leaves a final block group too small for ext4 metadata"},
		{"small end in a group with a copy", nil, 128*3*mib + 514*4096 + 4096, "target leaves a final block group too small for ext4 metadata"},
		{"small end in a group without", nil, 128*2*mib + 514*4096 + 4096, ""},
		{"small end in the group that is there", func(b []byte) { le.PutUint32(b[0x4:], 32768+1000) }, 132 * mib, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e, err := plan.DecodeExt4(super(c.change))
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := e.Grow(c.size)
			if got := errorText(err); got != c.err {
				t.Fatalf("%q, want %q", got, c.err)
			}
			if err == nil && blocks != c.size/4096 {
				t.Errorf("%d blocks", blocks)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDecodeExt4(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"short": make([]byte, 100), "nothing": make([]byte, plan.Ext4SuperSize),
		"no groups": super(func(b []byte) { clear(b[0x20:0x24]) }),
		"a block":   super(func(b []byte) { b[0x18] = 200 }),
	} {
		if _, err := plan.DecodeExt4(b); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

// A superblock that the guest has written decodes to something or nothing, and is judged.
func FuzzDecodeExt4(f *testing.F) {
	f.Add(super(nil), uint64(1<<30))
	f.Fuzz(func(t *testing.T, b []byte, size uint64) {
		if e, err := plan.DecodeExt4(b); err == nil {
			if blocks, err := e.Grow(size); err == nil && blocks != size/4096 {
				t.Errorf("%d blocks for %d bytes", blocks, size)
			}
		}
	})
}
