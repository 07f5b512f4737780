package machines

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// ParseMount reads HOST:GUEST[:ro,suid]. A path on the host that is not absolute is
// relative to the current directory.
func ParseMount(s string) (m sandbox.Mount, err error) {
	host, guest, options, err := threeParts(s)
	if err != nil || host == "" || !strings.HasPrefix(guest, "/") {
		return m, fmt.Errorf("volume %q: want HOST:GUEST[:ro,suid], with an absolute path in the machine", s)
	}
	if m.Source, err = filepath.Abs(host); err != nil {
		return m, err
	}
	m.Target = guest
	err = eachOption(options, func(name, value string) bool {
		m.ReadOnly, m.SetID = m.ReadOnly || name == "ro", m.SetID || name == "suid"
		return value == "" && slices.Contains(mountWords, name)
	})
	if words := strings.Split(options, ","); err == nil && slices.Contains(words, "ro") && slices.Contains(words, "rw") {
		err = errors.New("ro and rw: want one of them")
	}
	if err != nil {
		return m, fmt.Errorf("volume %q: %w", s, err)
	}
	return m, nil
}

// mountWords are the options of -v. Those after suid are accepted for container tools'
// users and ask for what always holds. A process of this host's user reads the files, so
// they need no SELinux label (z, Z). Mounts of one side do not appear on the other.
// Only nocopy of a volume has an effect, and not here. There is only one consistency.
var mountWords = strings.Fields("ro rw suid z Z private rprivate nocopy consistent cached delegated")

// threeParts splits A[:B[:C]].
func threeParts(s string) (a, b, c string, err error) {
	f := strings.Split(s, ":")
	const most = 3
	if len(f) > most {
		return "", "", "", errors.New("too many colons")
	}
	f = append(f, "", "")
	return f[0], f[1], f[2], nil
}

// eachOption calls f for each NAME[=VALUE] of a comma list, and refuses an option for
// which f returns false.
func eachOption(list string, f func(name, value string) bool) error {
	for o := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(o, "=")
		if o != "" && !f(name, value) {
			return fmt.Errorf("unknown option %q", o)
		}
	}
	return nil
}

// ParseTmpfs reads PATH[:size=64m,mode=1777,ro,noexec,nosuid,nodev].
func ParseTmpfs(s string) (t sandbox.Tmpfs, err error) {
	target, options, _ := strings.Cut(s, ":")
	if !strings.HasPrefix(target, "/") {
		return t, fmt.Errorf("tmpfs %q: want PATH[:size=64m,mode=1777,ro], with an absolute path", s)
	}
	t.Target = target
	var bad error
	err = eachOption(options, func(name, value string) bool {
		switch name {
		case "size":
			t.SizeMiB, bad = ParseSize(value)
		case "mode":
			t.Mode, bad = parseMode(value)
		case "ro":
			t.ReadOnly = true
		case "noexec":
			t.NoExec = true
		case "nosuid":
			t.NoSuid = true
		case "nodev":
			t.NoDev = true
		case "rw", "exec", "suid", "dev":
		default:
			return false
		}
		return bad == nil
	})
	if err = errors.Join(bad, err); err != nil {
		return t, fmt.Errorf("tmpfs %q: %w", s, err)
	}
	return t, nil
}

func parseMode(s string) (uint32, error) {
	const octal, bits, most = 8, 32, 0o7777
	n, err := strconv.ParseUint(s, octal, bits)
	if err != nil || n > most {
		return 0, fmt.Errorf("mode %q: want octal digits", s)
	}
	return uint32(n), nil
}

// ParseDisk reads FILE[:PATH][:ro,format=qcow2,fstype=ext4,serial=NAME]. A disk without
// a path is attached but not mounted.
func ParseDisk(s string) (d sandbox.Disk, err error) {
	file, target, options, err := threeParts(s)
	if err == nil && options == "" && target != "" && !strings.HasPrefix(target, "/") {
		target, options = "", target
	}
	if err != nil || file == "" {
		return d, fmt.Errorf("disk %q: want FILE[:PATH][:ro,format=qcow2,fstype=ext4]", s)
	}
	if d.Path, err = filepath.Abs(file); err != nil {
		return d, err
	}
	d.Target = target
	err = eachOption(options, func(name, value string) bool {
		switch name {
		case "ro":
			d.ReadOnly = true
		case "format":
			d.Format = sandbox.DiskFormat(value)
		case "fstype":
			d.FSType = value
		case "serial":
			d.Serial = value
		case "rw":
		default:
			return false
		}
		return true
	})
	if err != nil {
		return d, fmt.Errorf("disk %q: %w", s, err)
	}
	return d, nil
}

// ParseLimit reads NAME=SOFT[:HARD]; -1 and "unlimited" mean no limit.
func ParseLimit(s string) (l client.Limit, err error) {
	name, values, ok := strings.Cut(s, "=")
	soft, hard, both := strings.Cut(values, ":")
	if !both {
		hard = soft
	}
	l.Resource = strings.ToLower(name)
	var bad error
	l.Soft, err = limit(soft)
	l.Hard, bad = limit(hard)
	names := wire.LimitNames()
	switch {
	case errors.Join(err, bad) != nil || !ok || name == "":
		return l, fmt.Errorf("ulimit %q: want NAME=SOFT[:HARD], such as nofile=1024:4096", s)
	case !slices.Contains(names[:], l.Resource):
		return l, fmt.Errorf("ulimit %q: no such limit; want one of %s", s, strings.Join(names[:], ", "))
	case l.Soft > l.Hard:
		return l, fmt.Errorf("ulimit %q: the soft limit is above the hard one", s)
	}
	return l, nil
}

func limit(s string) (uint64, error) {
	if s == "-1" || s == "unlimited" {
		return math.MaxUint64, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// ParseLabel reads KEY=VALUE or KEY.
func ParseLabel(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if key == "" {
		return "", "", fmt.Errorf("label %q: want KEY=VALUE", s)
	}
	return key, value, nil
}
