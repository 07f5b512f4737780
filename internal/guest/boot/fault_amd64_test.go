package boot_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/fault"
	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
)

// nthVariable tells a copy of the test which call fails.
const nthVariable = "AGENTD_TEST_NTH"

// faulty is what became of a boot of which one system call failed.
type faulty struct {
	fault.Fault

	Step   string // That failed, "" if none.
	Index  int    // Of the step that was done last, or being done.
	Err    string
	Left   string   // What was left mounted, "" if nothing.
	Logged []string // What was said on the console.
}

// everything is a plan with every kind of step that needs no device: a root of
// layers and a share in memory, mounts, network, files.
func everything(t *testing.T) *plan.Plan {
	t.Helper()
	p := planOf(
		t, "MSB_HOSTNAME=box", "MSB_HOST_ALIAS=host.test", "MSB_RLIMITS=core=0", "MSB_TMPFS=/cache/a:size=1;/tmp:size=1",
		"MSB_NET=iface=eth0,mac=02:6d:73:00:2a:02,mtu=1400", "MSB_NET_IPV4=addr=172.16.0.170/30,gw=172.16.0.169,dns=172.16.0.169",
		"MSB_NET_IPV6=addr=fd42:6d73:62:2a::2/64,gw=fd42:6d73:62:2a::1",
	)
	at := slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Name() == "mounts" })
	oci := ociRoot(t)
	p.Steps = slices.Insert(
		p.Steps, at+1, plan.Step(plan.Share{Mount: memory(plan.ShareDir)}), plan.Step(plan.BlockRoot{OCI: oci}), p.Steps[at],
	)
	after := slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Name() == "handshake" })
	p.Steps = slices.Insert(p.Steps, after+1, plan.Step(plan.DirMount{Mount: memory("/data")}))
	return p
}

// greeted puts the authorities into the share, on a thread that is not watched.
func greeted(string) error {
	done := make(chan error)
	go func() {
		err := os.MkdirAll(plan.ShareDir+"/tls", 0o755)
		for _, name := range []string{"ca.pem", "host-cas.pem"} {
			if err == nil {
				err = os.WriteFile(plan.ShareDir+"/tls/"+name, []byte(ca), 0o644)
			}
		}
		done <- err
	}()
	return <-done
}

// bootFaulty boots with the n-th call failing, takes the machine down and looks
// at what is mounted then.
func bootFaulty(t *testing.T, n int) (f faulty) {
	t.Helper()
	p := everything(t)
	proc, err := os.OpenRoot("/proc") // The boot mounts over it.
	if err != nil {
		t.Fatal(err)
	}
	unmounted(t)
	before := mountedAt(t, proc)
	var m *boot.Machine
	var failed error
	f.Fault, failed = fault.Nth(fault.Point{Call: "any", Nth: n}, syscall.EIO, func() { m, err = boot.Up(p, greeted) })
	if failed != nil {
		t.Fatal(failed)
	}
	f.Index = len(m.Timings)
	if step, ok := errors.AsType[*boot.StepError](err); ok {
		f.Step = step.Step.Name()
	}
	if err != nil {
		f.Err = err.Error()
	}
	m.Down(10 * time.Second)
	after := mountedAt(t, proc)
	if !slices.Equal(after, before) && !slices.Equal(after, []string{"overlay / overlay"}) {
		f.Left = fmt.Sprintf("mounted before:\n%s\nand after:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	return f
}

// mountedAt lists what is mounted where, without the flags: the root is read-only
// after the way down.
func mountedAt(t *testing.T, proc *os.Root) (all []string) {
	t.Helper()
	b, err := proc.ReadFile("self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		all = append(all, strings.Join(strings.Fields(line)[:3], " "))
	}
	return all
}

// Each system call of a boot fails in its turn. The boot ends with the step
// named, or goes on where it can live without; and nothing is left mounted.
func TestEveryCallFails(t *testing.T) {
	if n, err := strconv.Atoi(os.Getenv(nthVariable)); err == nil {
		b, err := json.Marshal(bootFaulty(t, n))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\n%s%s\n", nthVariable, b)
		return
	}
	nstest.Run(t, func() {
		nstest.RequireUsers(t) // A user namespace mounts no devtmpfs.
		nstest.Root(t)
		ip(t, "link", "add", "name", "eth0", "type", "veth")
		copyWith(t, 0) // What one boot leaves in the root, all later ones find.
		whole := copyWith(t, 0)
		if whole.Err != "" || whole.Left != "" {
			t.Fatalf("without a fault: %+v", whole)
		}
		steps := everything(t).Steps
		met := map[int]bool{}
		last, ended := 0, 0
		for n := 1; n <= whole.Calls; n++ {
			f := copyWith(t, n)
			f.check(t, steps)
			if f.Step == "" {
				continue
			}
			ended++
			if met[f.Index] = true; f.Index < last {
				t.Errorf("call %d is of step %d, an earlier one of step %d", n, f.Index, last)
			}
			last = f.Index
		}
		t.Logf("%d calls, %d of which end the boot", whole.Calls, ended)
		for i, s := range steps {
			if !met[i+1] && !slices.Contains(silent, s.Name()) {
				t.Errorf("no call failed in step %s", s.Name())
			}
		}
	})
}

// silent are the steps that need no call of their own here: the host's word.
var silent = []string{"handshake"}

// questions are the calls whose failure is no more than a question without an
// answer: whether something stands there already, which is then done anyway.
var questions = []string{"statx", "newfstatat", "openat2"}

// check looks at the end of a boot of which the call f.Calls failed.
func (f faulty) check(t *testing.T, steps []plan.Step) {
	t.Helper()
	said := func(what string) bool {
		return slices.ContainsFunc(f.Logged, func(line string) bool { return strings.Contains(line, what) })
	}
	const cause = "input/output error"
	switch {
	case f.Call == "":
		t.Errorf("call %d was not made", f.Calls)
	case f.Left != "" && !strings.Contains(f.Err, "detach old root"):
		// Nothing can be done about a kernel that does not let go of the old root.
		t.Errorf("call %d (%s): %s", f.Calls, f.Call, f.Left)
	case f.Err == "" && f.Index != len(steps):
		t.Errorf("call %d (%s): no error, and %d of %d steps", f.Calls, f.Call, f.Index, len(steps))
	case f.Err == "" && !said(cause) && !slices.Contains(questions, f.Call):
		t.Errorf("call %d (%s) failed and nobody told of it: %q", f.Calls, f.Call, f.Logged)
	case f.Err != "" && (f.Index == 0 || steps[f.Index-1].Name() != f.Step || !strings.Contains(f.Err, "step "+f.Step+": ") || !strings.Contains(f.Err, cause)):
		t.Errorf("call %d (%s): step %q, error %q", f.Calls, f.Call, f.Step, f.Err)
	}
}

// copyWith starts the test again in mounts of its own.
func copyWith(t *testing.T, n int) (f faulty) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), nthVariable+"="+strconv.Itoa(n))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	// The way down has made the root read-only for all who have it mounted.
	if again := syscall.Mount("", "/", "", syscall.MS_REMOUNT, ""); again != nil {
		t.Fatal(again)
	}
	_, rest, found := strings.Cut(string(out), "\n"+nthVariable)
	line, _, _ := strings.Cut(rest, "\n")
	if err == nil && found {
		err = json.Unmarshal([]byte(line), &f)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "agentd: ") {
			f.Logged = append(f.Logged, line)
		}
	}
	if err != nil || !found {
		t.Fatalf("call %d: %v\n%s", n, err, out)
	}
	return f
}
