package boot

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// What helps against an error depends on what failed with it.
func TestHint(t *testing.T) {
	disk := func(fstype string, err error) error {
		return &sys.MountError{Mount: sys.Mount{Source: "/dev/vda", Type: fstype, Target: "/newroot"}, Err: fmt.Errorf("create: %w", err)}
	}
	share := &sys.MountError{Mount: sys.Mount{Source: "data", Type: "virtiofs", Target: "/data"}, Err: syscall.EINVAL}
	for _, tt := range []struct {
		err        error
		says, nots string
	}{
		{disk("erofs", syscall.EOPNOTSUPP), "this kernel cannot read the disk's erofs", "IPv6"},
		{disk("ext4", syscall.EOPNOTSUPP), "this kernel cannot read the disk's ext4", "IPv6"},
		{disk("erofs", syscall.EINVAL), "no erofs, a damaged one, or one with a feature", "share"},
		{disk("ext4", syscall.EUCLEAN), "damaged", "IPv6"},
		{disk("xfs", syscall.ENODEV), "the kernel needs xfs", "IPv6"},
		{share, "no share with this tag", "disk"},
		{fmt.Errorf("add address: %w", syscall.EAFNOSUPPORT), "IPv6", "disk"},
		{fmt.Errorf("add route: %w", syscall.EOPNOTSUPP), "IPv6", "disk"},
		{fmt.Errorf("write /etc/hosts: %w", syscall.ENOSPC), "full", "IPv6"},
	} {
		got := explain(tt.err).Error()
		if !strings.Contains(got, tt.says) || strings.Contains(got, tt.nots) {
			t.Errorf("%v is explained as %q, want %q in it", tt.err, got, tt.says)
		}
	}
}

// A kernel with large pages may only lack that of a disk with small blocks.
func TestPagesHint(t *testing.T) {
	for _, tt := range []struct {
		fstype string
		size   int
		says   string
	}{{"erofs", 4096, ""}, {"ext4", 65536, ""}, {"erofs", 16384, "pages have 16 KiB"}, {"erofs", 65536, "pages have 64 KiB"}} {
		if got := pagesHint(tt.fstype, tt.size); (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
			t.Errorf("%s and pages of %d: %q, want %q", tt.fstype, tt.size, got, tt.says)
		}
	}
}
