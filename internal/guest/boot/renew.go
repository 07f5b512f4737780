package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

const (
	bootID = "/proc/sys/kernel/random/boot_id"

	// newBootID is where the content of a new boot id is written. It has this name only
	// until it is mounted.
	newBootID = "/dev/.boot_id"

	// maxHosts bounds /etc/hosts, which is copied: a hundred thousand entries.
	maxHosts = 4 << 20
)

// RenewBootID gives the guest another boot id. The kernel makes one when it is first read
// and keeps it for ever, so a file is mounted over it.
func (m *Machine) RenewBootID() error {
	if err := m.open(); err != nil {
		return err
	}
	if err := sys.Uncover(bootID); err != nil { // Of an earlier time.
		return err
	}
	var b [16]byte
	if err := sys.Random(b[:]); err != nil {
		return err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	id := fmt.Sprintf("%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	if err := m.root.WriteFile(newBootID, []byte(id), 0o444); err != nil {
		return err
	}
	err := m.root.BindFile(newBootID, bootID, sys.ReadOnly|sys.NoSUID|sys.NoDev|sys.NoExec)
	return errors.Join(err, m.root.RemoveFile(newBootID))
}

// Rename gives the guest another host name, and writes it to the files that had the old
// one.
func (m *Machine) Rename(name string) error {
	if err := m.open(); err != nil {
		return err
	}
	old, err := sys.Hostname()
	if err != nil {
		return err
	}
	if err := sys.SetHostname(name); err != nil {
		return err
	}
	if err := m.comfort("/etc/hostname", name+"\n"); err != nil {
		return err
	}
	hosts, err := m.root.ReadFile("/etc/hosts", maxHosts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.comfort("/etc/hosts", renamed(string(hosts), old, name))
}

// SetMachineID writes /etc/machine-id (machine-id(5)).
func (m *Machine) SetMachineID(id string) error {
	if err := m.open(); err != nil {
		return err
	}
	return m.comfort("/etc/machine-id", id+"\n")
}

// renamed replaces a name of this host in the content of /etc/hosts. Lines of other
// addresses stay.
func renamed(hosts, old, name string) string {
	var b strings.Builder
	for line := range strings.Lines(hosts) {
		words := strings.Fields(line)
		if len(words) > 1 && isOwn(words[0]) && slices.Contains(words, old) {
			for i, w := range words {
				if w == old {
					words[i] = name
				}
			}
			line = words[0] + "\t" + strings.Join(words[1:], " ") + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// isOwn reports whether an address is one of this host's own.
func isOwn(address string) bool { return strings.HasPrefix(address, "127.") || address == "::1" }
