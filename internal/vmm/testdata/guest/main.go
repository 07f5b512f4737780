// Command guest is the first process of the machines in this package's tests: it
// reports what it sees on the agent's port, or on the console where it has no
// port, and ends the machine when told to.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

func main() {
	mount("proc", "/proc", "proc")
	mount("sysfs", "/sys", "sysfs")
	mount("devtmpfs", "/dev", "devtmpfs")
	fmt.Println("guest: hello")
	port, err := openPort()
	if err != nil {
		report(os.Stdout)
		end()
	}
	report(port)
	serve(port)
	end()
}

func mount(source, target, kind string) {
	_ = os.MkdirAll(target, 0o755)
	if err := syscall.Mount(source, target, kind, 0, ""); err != nil && err != syscall.EBUSY {
		fmt.Println("guest: mount", target, err)
	}
}

func openPort() (*os.File, error) {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, name := range names {
		if b, _ := os.ReadFile(name); strings.TrimSpace(string(b)) == "agent" {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_RDWR, 0)
		}
	}
	return nil, os.ErrNotExist
}

func report(w io.Writer) {
	fmt.Fprintln(w, "cpus", runtime.NumCPU())
	for _, e := range os.Environ() {
		fmt.Fprintln(w, "env", e)
	}
	serials, _ := filepath.Glob("/sys/block/vd*/serial")
	for _, s := range serials {
		b, _ := os.ReadFile(s)
		ro, _ := os.ReadFile(filepath.Dir(s) + "/ro")
		fmt.Fprintln(w, "disk", filepath.Base(filepath.Dir(s)), strings.TrimSpace(string(b)), "ro="+strings.TrimSpace(string(ro)))
	}
	if tag := os.Getenv("SHARE"); tag != "" {
		mount(tag, "/mnt", "virtiofs")
		b, err := os.ReadFile("/mnt/from-host")
		fmt.Fprintln(w, "share read", strings.TrimSpace(string(b)), err)
		fmt.Fprintln(w, "share write", os.WriteFile("/mnt/from-guest", nil, 0o600))
	}
	_, err := os.Stat("/dev/hwrng")
	fmt.Fprintln(w, "hwrng", err)
	fmt.Fprintln(w, ".")
}

// serve answers each line with itself until it reads "exit".
func serve(port *os.File) {
	lines := bufio.NewScanner(port)
	for lines.Scan() && lines.Text() != "exit" {
		fmt.Fprintln(port, lines.Text())
	}
}

func end() {
	how := syscall.LINUX_REBOOT_CMD_RESTART
	if os.Getenv("END") == "off" {
		how = syscall.LINUX_REBOOT_CMD_POWER_OFF
	}
	syscall.Sync()
	fmt.Println("guest: end", syscall.Reboot(how))
	select {}
}
