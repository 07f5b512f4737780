package plan

import (
	"fmt"
	"strconv"
)

// diskImage returns a root that is one file system on a device. An empty fstype means
// that it has to be probed.
func diskImage(device, fstype string) *BlockRoot {
	return &BlockRoot{DiskImage: &Mount{Source: device, Target: NewRoot, Type: fstype}}
}

// ociRoot returns a root with an erofs lower and the given upper. Tools that read the
// overlay's options know these three paths.
func ociRoot(lower string, upper Mount, metrics bool) *BlockRoot {
	upper.Target = upperDir
	up, work := upperDir+"/upper", upperDir+"/work"
	return &BlockRoot{OCI: &OCI{
		Lower: Mount{Source: lower, Target: lowerDir, Type: "erofs", Flags: ReadOnly},
		Upper: upper,
		Dirs:  []string{up, work},
		Overlay: Mount{
			Source: "overlay", Target: NewRoot, Type: "overlay",
			Data: fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lowerDir, up, work),
		},
		Metrics: metrics,
	}}
}

// tmpfsUpper returns the mount of an upper in memory. Its mode is that of the machine's
// root directory, because the upper's root directory becomes that.
func tmpfsUpper(sizeMiB *uint32) Mount {
	return Mount{Source: "tmpfs", Type: "tmpfs", Flags: RelAtime, Data: tmpfsData(sizeMiB, 0o755)}
}

// tmpfsData returns the mount data of a tmpfs. Without a size the kernel uses half of
// the memory. size=0 means no limit.
func tmpfsData(sizeMiB *uint32, mode uint32) string {
	data := "mode=" + strconv.FormatUint(uint64(mode), 8)
	if sizeMiB != nil {
		data = "size=" + strconv.FormatUint(uint64(*sizeMiB)<<20, 10) + "," + data
	}
	return data
}
