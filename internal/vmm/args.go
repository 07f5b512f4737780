package vmm

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// A Backend is the host's end of one of QEMU's character devices.
type Backend struct {
	kind string
	opts string
}

// Inherited is a connected stream socket that QEMU inherits as descriptor fd.
func Inherited(fd int) Backend {
	return Backend{kind: "socket", opts: ",fd=" + strconv.Itoa(fd)}
}

// Accepting is a listening Unix socket that QEMU inherits as descriptor fd. QEMU serves
// one connection after the other, and starts without one.
func Accepting(fd int) Backend {
	return Backend{kind: "socket", opts: ",fd=" + strconv.Itoa(fd) + ",server=on,wait=off"}
}

// Awaiting is like Accepting, but QEMU does not start before the first connection.
func Awaiting(fd int) Backend {
	return Backend{kind: "socket", opts: ",fd=" + strconv.Itoa(fd) + ",server=on,wait=on"}
}

// Dialed is a Unix socket that QEMU connects to.
func Dialed(path string) Backend {
	return Backend{kind: "socket", opts: ",path=" + escape(path)}
}

// Listening is a Unix socket that QEMU makes. QEMU starts without a connection.
func Listening(path string) Backend {
	return Backend{kind: "socket", opts: ",path=" + escape(path) + ",server=on,wait=off"}
}

// Stdio is QEMU's own standard input and output.
func Stdio() Backend { return Backend{kind: "stdio"} }

// RuntimePaths holds the host's ends of one run's links. Shares holds one backend for
// each of [Machine.Shares], in order; virtiofsd is at its other end.
type RuntimePaths struct {
	Agent, Console, QMP Backend
	Records             Backend // For a machine with that port.
	Shares              []Backend
	Taps                []string // Options of -netdev tap, one for each of [Machine.Taps].

	// Memory is the file that backs the guest's memory; nil means anonymous memory.
	Memory *Memory
	// Incoming makes QEMU wait for a saved state instead of booting the machine.
	Incoming bool
}

// A Memory is a file that QEMU inherits as descriptor FD, as large as the guest's memory.
// FD 0 means anonymous memory with the same name in a saved state.
type Memory struct {
	FD int
	// Shared writes the guest's changes to the file. Otherwise the file is only read,
	// and the changes stay private to the machine.
	Shared bool
}

// QEMUArgs returns the arguments of the board's QEMU for a machine that has passed
// [Machine.Check]. Equal values give equal arguments. An Accel of Auto means software
// emulation, which works everywhere.
func (m Machine) QEMUArgs(run RuntimePaths) []string {
	return m.board().slot(slices.Concat(
		m.boardArgs(),
		m.kernelArgs(run.Incoming),
		m.memoryArgs(run.Memory),
		m.linkArgs(run),
		m.shareArgs(run.Shares),
		m.diskArgs(),
		m.cardArgs(),
		m.tapArgs(run.Taps),
		[]string{"-device", "virtio-rng-device"},
	))
}

// boardArgs describe the board.
func (m Machine) boardArgs() []string {
	b := m.board()
	accel, cpu := "tcg", b.cpu
	switch {
	case m.Accel == KVM:
		accel, cpu = "kvm", "host"
	case m.TranslationMiB > 0:
		accel += ",tb-size=" + strconv.Itoa(m.TranslationMiB)
	}
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", b.machine(m), "-accel", accel, "-cpu", cpu,
		"-smp", m.processors(), "-m", strconv.Itoa(m.MemoryMiB) + "M",
		// The legacy layout has no room for the features that virtiofs needs.
		"-global", "virtio-mmio.force-legacy=false",
	}
}

// processors returns the value of -smp. If a guest can have only one processor,
// software emulation executes locked instructions as plain ones (the flag CF_PARALLEL
// of QEMU's accel/tcg), and leaves barriers out. But Linux uses both as barriers, and
// devices run concurrently with the guest. Without barriers virtiofsd sometimes misses a
// notification; the guest then sends no later ones, because the queue says which one to
// send next, and virtiofsd hangs. A maximum of two processors keeps the barriers, even
// if the second one never exists.
func (m Machine) processors() string {
	if m.Accel != KVM && m.CPUs == 1 {
		return "1,maxcpus=2"
	}
	return strconv.Itoa(m.CPUs)
}

// kernelArgs are empty for an incoming machine, whose memory holds the kernel already.
func (m Machine) kernelArgs(incoming bool) []string {
	if incoming {
		return []string{"-incoming", "defer"}
	}
	args := []string{"-kernel", m.Kernel, "-append", m.cmdline()}
	if m.Initrd != "" {
		args = append(args, "-initrd", m.Initrd)
	}
	return args
}

// memoryArgs name the file by its descriptor. QEMU would create a file that is missing
// under a name, and the guest would run on in memory that is all zeros.
func (m Machine) memoryArgs(file *Memory) []string {
	if file == nil {
		return nil
	}
	if file.FD == 0 {
		return []string{"-object", fmt.Sprintf("memory-backend-ram,id=mem,size=%dM", m.MemoryMiB), "-machine", "memory-backend=mem"}
	}
	share := "off"
	if file.Shared {
		share = "on"
	}
	return []string{
		"-object", fmt.Sprintf("memory-backend-file,id=mem,size=%dM,mem-path=/proc/self/fd/%d,share=%s", m.MemoryMiB, file.FD, share),
		"-machine", "memory-backend=mem",
	}
}

// portID is the name of the agent's port in QEMU's events.
const portID = "agent"

// agentChardev is the character device of the agent's port.
const agentChardev = "agent"

// linkArgs are the console, the control link and the agent's ports.
func (m Machine) linkArgs(run RuntimePaths) []string {
	args := []string{"-chardev", chardev("console", run.Console), "-device", "virtio-serial-device"}
	if m.Console == Serial {
		args = append(args, "-serial", "chardev:console")
	} else {
		args = append(args, "-device", "virtconsole,chardev=console")
	}
	args = append(
		args,
		"-chardev", chardev("qmp", run.QMP), "-mon", "chardev=qmp,mode=control",
		"-chardev", chardev(agentChardev, run.Agent), "-device", "virtserialport,chardev=agent,name=agent,id="+portID,
	)
	if m.Records {
		args = append(args, "-chardev", chardev("records", run.Records), "-device", "virtserialport,chardev=records,name=agent-bulk")
	}
	return args
}

// shareArgs include the guest's memory as a file that virtiofsd can map; without
// shares it stays private memory, for which the kernel gives huge pages.
func (m Machine) shareArgs(ends []Backend) []string {
	if len(m.Shares) == 0 {
		return nil
	}
	args := []string{
		"-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", m.MemoryMiB),
		"-machine", "memory-backend=mem",
	}
	for i, s := range m.Shares {
		id := "fs" + strconv.Itoa(i)
		args = append(
			args, "-chardev", chardev(id, ends[i]),
			"-device", "vhost-user-fs-device,chardev="+id+",tag="+escape(s.Tag),
		)
	}
	return args
}

func (m Machine) diskArgs() []string {
	var args []string
	for i, d := range m.Disks {
		id := diskID(i)
		args = append(args, "-blockdev", d.blockdev(id), "-device", d.device(id))
	}
	return args
}

func diskID(i int) string { return "disk" + strconv.Itoa(i) }

// cardArgs are the network card. It is connected to QEMU's user network, or to a hub
// without another port.
func (m Machine) cardArgs() []string {
	switch {
	case m.Network:
		return []string{"-netdev", "user,id=net0", "-device", "virtio-net-device,netdev=net0,mac=" + net.HardwareAddr(NetworkMAC[:]).String()}
	case m.Card:
		return []string{"-netdev", "hubport,id=net0,hubid=0", "-device", "virtio-net-device,netdev=net0"}
	}
	return nil
}

// tapArgs are the network cards on TAP interfaces, which the caller configures. They do
// not use vhost-net: it would expose one more device of the host's kernel to the guest.
func (m Machine) tapArgs(ends []string) []string {
	var args []string
	for i, tap := range m.Taps {
		id := "tap" + strconv.Itoa(i)
		args = append(
			args, "-netdev", "tap,id="+id+","+ends[i],
			"-device", "virtio-net-device,netdev="+id+",mac="+net.HardwareAddr(tap.MAC[:]).String(),
		)
	}
	return args
}

// tapByName returns the options for an existing interface in a script.
func tapByName(name string) string { return "ifname=" + escape(name) + ",script=no,downscript=no" }

// blockdev passes discards on, so that a sparse file stays sparse.
func (d Disk) blockdev(id string) string {
	mode := "read-only=off,discard=unmap"
	if d.ReadOnly {
		mode = "read-only=on"
	}
	if d.placeholder {
		return fmt.Sprintf("driver=null-co,node-name=%s,%s,size=%d,read-zeroes=on", id, mode, int64(PlaceholderBytes))
	}
	return fmt.Sprintf("driver=%s,node-name=%s,%s,file.driver=file,file.filename=%s", d.Format, id, mode, escape(d.Path))
}

func (d Disk) device(id string) string {
	if d.Serial == "" {
		return "virtio-blk-device,drive=" + id
	}
	return "virtio-blk-device,drive=" + id + ",serial=" + escape(d.Serial)
}

func chardev(id string, b Backend) string { return b.kind + ",id=" + id + b.opts }

// escape writes a value for one of QEMU's key=value lists. It doubles commas, the only
// special character there.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
