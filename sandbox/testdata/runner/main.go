// Command runner executes the programs p0 to pN of a directory again and again,
// while memory is short and what was read is dropped, and counts those that end with
// another number than their own.
//
//	runner DIR PROGRAMS RUNS MEBIBYTES
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// dropEvery is how many runs may use what was read before.
const dropEvery = 50

func main() {
	programs, runs, hog := number(2), number(3), number(4)
	held := hold(hog)
	wrong := 0
	for i := range runs {
		if i%dropEvery == 0 {
			drop(held)
		}
		if got := run(filepath.Join(os.Args[1], fmt.Sprintf("p%d", i%programs))); got != strconv.Itoa(i%programs) {
			if wrong++; wrong <= 3 {
				fmt.Printf("p%d: %s\n", i%programs, got)
			}
		}
	}
	fmt.Printf("runs=%d wrong=%d\n", runs, wrong)
}

func number(i int) int {
	n, err := strconv.Atoi(os.Args[i])
	if err != nil {
		panic(err)
	}
	return n
}

// hold takes memory away from the kernel's caches.
func hold(mib int) []byte {
	b := make([]byte, mib<<20)
	touch(b)
	return b
}

func touch(b []byte) {
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i]++
	}
}

// drop has the kernel read the programs anew, into other pages.
func drop(held []byte) {
	touch(held)
	const pageCache = "1"
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte(pageCache), 0o200); err != nil {
		panic(err)
	}
}

// run returns a program's number, or how else it has ended.
func run(path string) string {
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{})
	if err != nil {
		return err.Error()
	}
	var status syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	switch {
	case err != nil:
		return err.Error()
	case status.Signaled():
		return status.Signal().String()
	}
	return strconv.Itoa(status.ExitStatus())
}
