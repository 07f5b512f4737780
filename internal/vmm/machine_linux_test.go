package vmm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The machines below boot in about three seconds under software emulation on an
// idle core; a loaded one with many tests beside takes some ten times that.
const bootTime = 60 * time.Second

const (
	envKernel = "AGENTD_TEST_KERNEL"       // ELF; virtio, virtiofs and hvc0 built in, no ACPI
	envStock  = "AGENTD_TEST_STOCK_KERNEL" // a distribution's bzImage
)

// requireKernel skips where the kernel is not named, unless machines are required;
// a wrong name fails.
func requireKernel(t *testing.T, env string) string {
	t.Helper()
	path := os.Getenv(env)
	switch {
	case path == "" && os.Getenv("AGENTD_REQUIRE_MACHINES") == "1":
		t.Fatal("real machines are required and " + env + " does not name a kernel")
	case path == "":
		t.Skip("real machine: " + env + " does not name a kernel")
	}
	return path
}

// guestRoot makes a directory with testdata/guest as /init.
func guestRoot(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root,1") // A comma: it means something to everybody on the way.
	for _, d := range []string{"dev", "proc", "sys", "mnt"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "init"), "./testdata/guest")
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
	return dir
}

func guestMachine(t *testing.T) Machine {
	t.Helper()
	return Machine{
		Kernel: requireKernel(t, envKernel), CPUs: 1, MemoryMiB: 256,
		Cmdline: []string{"root=rootfs", "rootfstype=virtiofs", "rw", "init=/init"},
		Shares:  []Share{{Tag: "rootfs", Dir: guestRoot(t)}},
	}
}

func boot(t *testing.T, m Machine) *VM {
	t.Helper()
	v, err := Start(within(t, bootTime), m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.Kill()
		if t.Failed() {
			t.Logf("console:\n%s\n%s", v.Console(), v.Command())
		}
	})
	return v
}

// readReport reads the guest's lines up to ".".
func readReport(t *testing.T, lines *bufio.Scanner) []string {
	t.Helper()
	var report []string
	for lines.Scan() {
		if lines.Text() == "." {
			return report
		}
		report = append(report, lines.Text())
	}
	t.Fatalf("the report ends early: %q, %v", report, lines.Err())
	return nil
}

func addDevices(t *testing.T, m *Machine) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "from-host"), []byte("text of the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Shares = append(m.Shares, Share{Tag: "data", Dir: dir, ReadOnly: true})
	for i, serial := range []string{"first", "second,2"} {
		path := filepath.Join(t.TempDir(), "disk,"+serial)
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Disks = append(m.Disks, Disk{Path: path, Serial: serial, ReadOnly: i == 0})
	}
}

func TestRealMachine(t *testing.T) {
	m := guestMachine(t)
	addDevices(t, &m)
	m.CPUs = 2
	m.Affinity = []int{0}
	m.Cmdline = append(m.Cmdline, "SHARE=data", "QUOTED=a  b=c")
	v := boot(t, m)
	if err := v.Port().SetDeadline(time.Now().Add(bootTime)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(v.Port(), "before the guest opened it\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(v.Port())
	report := readReport(t, lines)
	for _, want := range []string{
		"cpus 2",
		"env QUOTED=a  b=c",
		"disk vda first ro=1",
		"disk vdb second,2 ro=0",
		"share read text of the host <nil>",
		"share write open /mnt/from-guest: read-only file system",
		"hwrng <nil>",
	} {
		if !slices.Contains(report, want) {
			t.Errorf("the guest does not report %q", want)
		}
	}
	if t.Failed() {
		t.Logf("report:\n%s", strings.Join(report, "\n"))
	}
	if !lines.Scan() || lines.Text() != "before the guest opened it" {
		t.Errorf("early bytes: %q, %v", lines.Text(), lines.Err())
	}
	checkPause(t, v, lines)
	if _, err := io.WriteString(v.Port(), "exit\n"); err != nil {
		t.Fatal(err)
	}
	if err := v.Wait(within(t, bootTime)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(v.Console()), "guest: hello") {
		t.Error("the console lacks the guest's line")
	}
}

// checkPause: a paused guest does not answer, a resumed one does.
func checkPause(t *testing.T, v *VM, lines *bufio.Scanner) {
	t.Helper()
	if err := v.Stop(within(t, bootTime)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(v.Port(), "while paused\n"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan bool, 1)
	go func() { answered <- lines.Scan() }()
	select {
	case <-answered:
		t.Errorf("a paused guest answered %q", lines.Text())
		return
	case <-time.After(200 * time.Millisecond): // An answer takes 1 ms.
	}
	if err := v.Continue(within(t, bootTime)); err != nil {
		t.Fatal(err)
	}
	if !<-answered || lines.Text() != "while paused" {
		t.Errorf("after the pause: %q, %v", lines.Text(), lines.Err())
	}
}

func TestRealMachineQuit(t *testing.T) {
	v := boot(t, guestMachine(t))
	if err := v.Quit(within(t, bootTime)); err != nil {
		t.Error(err)
	}
}

// TestRealMachineLosesItsShare kills virtiofsd under a running guest.
func TestRealMachineLosesItsShare(t *testing.T) {
	v := boot(t, guestMachine(t))
	v.helpers[0].kill()
	if err := v.Wait(within(t, bootTime)); err == nil || !strings.Contains(err.Error(), "virtiofsd rootfs ended before the machine") {
		t.Errorf("got %v", err)
	}
}

// TestRealMachineByHand runs what Command prints.
func TestRealMachineByHand(t *testing.T) {
	m := guestMachine(t)
	addDevices(t, &m)
	script, err := m.Script(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Nobody talks to the port: the guest boots and waits, until QMP ends it.
	quit := `(for i in $(seq 600); do grep -q 'guest: hello' out 2>/dev/null && break; sleep 0.1; done; kill $(cat pid)) &
`
	sh := exec.CommandContext(within(t, bootTime), "sh", "-c", quit+strings.Replace(script, " -nodefaults", " -pidfile pid -nodefaults", 1)+`rm -r "$d"`)
	sh.Dir = t.TempDir()
	out, err := os.Create(filepath.Join(sh.Dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	sh.Stdout, sh.Stderr = out, out
	err = errors.Join(sh.Run(), out.Close())
	text, readErr := os.ReadFile(out.Name())
	if err != nil || readErr != nil || !strings.Contains(string(text), "guest: hello") {
		t.Errorf("%v, %v:\n%s\n%s", err, readErr, text, script)
	}
}

// envParent makes the test binary the process that the test kills.
const envParent = "VMM_TEST_PARENT_ROOT"

// TestRealMachineDiesWithItsParent kills a process that runs a machine.
func TestRealMachineDiesWithItsParent(t *testing.T) {
	if root := os.Getenv(envParent); root != "" {
		m := Machine{
			Kernel: os.Getenv(envKernel), CPUs: 1, MemoryMiB: 256, Cmdline: []string{"root=rootfs", "rootfstype=virtiofs", "init=/init"},
			Shares: []Share{{Tag: "rootfs", Dir: root}},
		}
		v := boot(t, m)
		fmt.Println("\npids", v.Pid(), v.helpers[0].pid)
		_ = v.Wait(t.Context())
		return
	}
	requireKernel(t, envKernel)
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRealMachineDiesWithItsParent$")
	parent.Env = append(parent.Environ(), envParent+"="+guestRoot(t))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pids := readPids(t, out)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // Killed, as asked.
	for _, pid := range pids {
		awaitGone(t, pid)
	}
}

func readPids(t *testing.T, out io.Reader) []int {
	t.Helper()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		list, ok := strings.CutPrefix(lines.Text(), "pids ")
		if !ok {
			continue
		}
		var pids []int
		for f := range strings.FieldsSeq(list) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return pids
	}
	t.Fatal("the parent printed no pids")
	return nil
}

// awaitGone polls, because there is no notification of the end of a process that is not
// a child.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if gone(pid) {
			return
		}
	}
	t.Errorf("process %d outlives its parent", pid)
}

// gone treats a zombie as gone.
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}

// TestRealStockMachine boots with ACPI, an initramfs and the serial console, and
// ends by power-off.
func TestRealStockMachine(t *testing.T) {
	initrd := filepath.Join(t.TempDir(), "initrd")
	kernel := requireKernel(t, envStock)
	if err := os.WriteFile(initrd, cpioOf(t, filepath.Join(guestRoot(t), "init")), 0o600); err != nil {
		t.Fatal(err)
	}
	v := boot(t, Machine{
		Kernel: kernel, Initrd: initrd, CPUs: 1, MemoryMiB: 256, ACPI: true, Console: Serial,
		Cmdline: []string{"rdinit=/init", "END=off", "QUOTED=a b"},
	})
	if err := v.Wait(within(t, bootTime)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"guest: hello", "env QUOTED=a b"} {
		if !strings.Contains(string(v.Console()), want) {
			t.Errorf("the console lacks %q:\n%s", want, v.Console())
		}
	}
}

// cpioOf is an initramfs with init and /dev/console (cpio "newc": 13 fields of
// eight hex digits, then the name and the data, each padded to four bytes).
func cpioOf(t *testing.T, init string) []byte {
	t.Helper()
	data, err := os.ReadFile(init)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	pad := func() { b = append(b, make([]byte, -len(b)&3)...) }
	add := func(name string, mode, major, minor int, data []byte) {
		b = fmt.Appendf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			0, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
		pad()
		b = append(b, data...)
		pad()
	}
	add("dev", syscall.S_IFDIR|0o755, 0, 0, nil)
	add("dev/console", syscall.S_IFCHR|0o600, 5, 1, nil)
	add("init", syscall.S_IFREG|0o755, 0, 0, data)
	add("TRAILER!!!", 0, 0, 0, nil)
	return b
}
