package proc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/nstest"
)

// Processes that their parents leave behind come to PID 1, and it must take
// their ends: zombies would fill the process table.
//
//holds:boot 27: no zombies; 200 at once report 0; the group dies; −1 for a signal
func TestOrphansLeaveNoZombies(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		table := newTable(t, proc.Options{})
		const orphans = 1000
		// Each subshell leaves a child that outlives it.
		output(t, table, shell(fmt.Sprintf(`for i in $(seq %d); do (sleep 0.01 & exit); done`, orphans)))
		eventually(t, "no process is left", func() bool { return len(processes(t)) == 0 })
	})
}

// However many commands end at once, each reports its own code.
//
//holds:boot 27: no zombies; 200 at once report 0; the group dies; −1 for a signal
func TestExitCodesAreKept(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		table := newTable(t, proc.Options{})
		const commands = 500
		var all sync.WaitGroup
		for i := range commands {
			all.Go(func() {
				want := proc.Status{Code: i % 256}
				script := "exit " + strconv.Itoa(want.Code)
				if i%10 == 9 {
					want, script = proc.Status{Signal: 9}, "kill -9 $$"
				}
				r, err := start(t, table, shell(script))
				if err != nil {
					t.Errorf("command %d: %v", i, err)
					return
				}
				wait(t, r.Done(), "an end")
				if got := r.Status(); got != want {
					t.Errorf("command %d ended with %+v, want %+v", i, got, want)
				}
				r.Release()
			})
		}
		all.Wait()
		if left := processes(t); len(left) != 0 {
			t.Errorf("processes are left: %v", left)
		}
	})
}

// A start that fails leaves nothing behind either: no process and no entry that
// a later signal to all would be sent by.
func TestFailedStartsLeaveNothing(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		table := newTable(t, proc.Options{})
		for _, limits := range [][]proc.Limit{nil, {{Resource: nofile, Soft: 64, Hard: 64}}} {
			for range 20 {
				s := shell("")
				s.Name, s.Limits = "/no/such", limits
				if _, err := start(t, table, s); err == nil {
					t.Fatal("a missing program was started")
				}
			}
		}
		eventually(t, "no process is left", func() bool { return len(processes(t)) == 0 })
		if n := table.Known(); n != 0 {
			t.Errorf("the table knows %d children, want none", n)
		}
	})
}

//holds:boot 27: no zombies; 200 at once report 0; the group dies; −1 for a signal
func TestSignals(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		table := newTable(t, proc.Options{})
		t.Run("reaches the whole group", func(t *testing.T) {
			r := mustStart(t, table, shell("sleep 1000 & sleep 1000 & wait"))
			eventually(t, "three processes run", func() bool { return len(processes(t)) == 3 })
			if err := r.Signal(9); err != nil {
				t.Fatal(err)
			}
			if _, status := r.end(t); status != (proc.Status{Signal: 9}) {
				t.Errorf("ended with %+v", status)
			}
			r.Release()
			eventually(t, "no process is left", func() bool { return len(processes(t)) == 0 })
		})
		t.Run("reaches descendants after the leader's end", func(t *testing.T) {
			r := mustStart(t, table, shell("sleep 1000 & exit 3"))
			wait(t, r.Done(), "the leader's end")
			if len(processes(t)) != 1 {
				t.Fatalf("processes: %v, want the one that is left", processes(t))
			}
			if err := r.Signal(15); err != nil {
				t.Fatal(err)
			}
			if _, status := r.end(t); status != (proc.Status{Code: 3}) {
				t.Errorf("ended with %+v", status)
			}
			eventually(t, "no process is left", func() bool { return len(processes(t)) == 0 })
			if err := r.Signal(15); err != nil {
				t.Errorf("signal to a group that is gone: %v", err)
			}
			r.Release()
		})
		t.Run("does nothing when forgotten", func(t *testing.T) {
			r := mustStart(t, table, shell("sleep 1000 & exit 0"))
			wait(t, r.Done(), "the leader's end")
			r.Release()
			if err := r.Signal(9); err != nil {
				t.Error(err)
			}
			if len(processes(t)) != 1 {
				t.Error("the signal of a forgotten child was delivered")
			}
			output(t, table, shell("kill -9 -1"))
			r.end(t)
		})
		t.Run("does nothing when its number is another's", func(t *testing.T) {
			r, stranger := succeeded(t, table)
			if err := r.Signal(9); err != nil {
				t.Error(err)
			}
			table.Signal(9)
			r.Release()
			// A signal that was sent would be there before this one.
			if err := syscall.Kill(stranger, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the stranger stops", func() bool {
				state := processes(t)[strconv.Itoa(stranger)]
				return strings.HasPrefix(state, "T") || state == ""
			})
			if processes(t)[strconv.Itoa(stranger)] == "" {
				t.Error("a stranger was ended")
			}
			if err := syscall.Kill(-1, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			eventually(t, "no process is left", func() bool { return len(processes(t)) == 0 })
		})
		t.Run("refuses other numbers", func(t *testing.T) {
			r := mustStart(t, table, shell("sleep 1000"))
			for _, number := range []int{-1, 0, 32, 34, 64, 65} {
				if err := r.Signal(number); err == nil {
					t.Errorf("signal %d was taken", number)
				}
			}
			if err := r.Signal(9); err != nil {
				t.Fatal(err)
			}
			r.end(t)
			r.Release()
		})
		t.Run("stops and continues", func(t *testing.T) {
			r := mustStart(t, table, shell("sleep 1000"))
			state := func() string { return processes(t)[strconv.Itoa(r.PID())] }
			for _, step := range []struct {
				number int
				state  string
			}{{19, "T"}, {18, "S"}} {
				if err := r.Signal(step.number); err != nil {
					t.Fatal(err)
				}
				eventually(t, "state "+step.state, func() bool { return strings.HasPrefix(state(), step.state) })
				select {
				case <-r.Done():
					t.Fatal("a stop was taken for the end")
				default:
				}
			}
			table.Signal(9)
			r.end(t)
			r.Release()
		})
	})
}

// succeeded returns a child of the table's that has ended, and a process that is not
// the table's and has its number. A thread of ours may get the number first and keep
// it: then another child is tried.
func succeeded(t *testing.T, table *proc.Table) (ended *run, stranger int) {
	t.Helper()
	const children = 20
	for range children {
		r := mustStart(t, table, shell("exit 0"))
		r.end(t)
		if pid := strangerAs(t, r.PID()); pid != 0 {
			return r, pid
		}
		r.Release()
	}
	t.Fatalf("the numbers of %d children are taken", children)
	return nil, 0
}

// strangerAs starts a process that is not the table's and has a number that was
// used before. It returns 0 if the number is taken.
func strangerAs(t *testing.T, pid int) int {
	t.Helper()
	for range 5 { // Threads of ours end sometimes.
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skipf("the kernel gives no number twice: %v", err)
		}
		got, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
		if err != nil {
			t.Fatal(err)
		}
		if got == pid {
			return got
		}
		if err := syscall.Kill(got, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	return 0
}

func TestClose(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		table := newTable(t, proc.Options{})
		r := mustStart(t, table, shell("sleep 1000"))
		var starts sync.WaitGroup
		for range 50 { // Some of them meet the closing half-way.
			starts.Go(func() {
				quick, err := start(t, table, shell("exit 0"))
				if err == nil {
					wait(t, quick.Done(), "an end")
					quick.Release()
				} else if !errors.Is(err, proc.ErrClosed) {
					t.Errorf("start beside Close: %v", err)
				}
			})
		}
		table.Close()
		starts.Wait()
		table.Close()
		if _, err := start(t, table, shell("exit 0")); !errors.Is(err, proc.ErrClosed) {
			t.Errorf("start after Close: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := table.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("wait with a child that runs: %v", err)
		}
		table.Signal(9)
		if err := table.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		wait(t, r.Done(), "the end of the last child")
	})
}
