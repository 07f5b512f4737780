package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

var (
	cutCount = flag.Int("cuts", 20, "how many copies TestCuts cuts")
	cutSeed  = flag.Uint64("cutseed", 0, "which ones, and about when; 0 for new ones")
)

// A cutCopy is a command that moves a file or a tree. M and N are machines with /big
// and /tree; DIR is the trial's directory with big, tree and tree.tar. What comes is
// in, in /w or DIR/w.
type cutCopy struct {
	command string
	stdin   string // A file of the directory.
	tree    bool
	at      string // Where the outcome is: M, N, DIR, or "-" for standard output.
}

var cutCopies = []cutCopy{
	{command: "cp -q DIR/big M:/w/in", at: "M"},
	{command: "cp -q -r DIR/tree M:/w/in", at: "M", tree: true},
	{command: "cp -q M:/big DIR/w/in", at: "DIR"},
	{command: "cp -q -r M:/tree DIR/w/in", at: "DIR", tree: true},
	{command: "cp -q M:/big M:/w/in", at: "M"},
	{command: "cp -q -r M:/tree M:/w/in", at: "M", tree: true},
	{command: "cp -q M:/big N:/w/in", at: "N"},
	{command: "cp -q -r M:/tree N:/w/in", at: "N", tree: true},
	{command: "cat M:/big", at: "-"},
	{command: "put M:/w/in", stdin: "big", at: "M"},
	{command: "tar M:/tree", at: "-", tree: true},
	{command: "tar -x M:/w/in", stdin: "tree.tar", at: "M", tree: true},
}

// cutKinds are the ways to cut: the link after some bytes, the tool by SIGKILL, and a
// machine of the copy. After "rm" it comes again, as new.
var cutKinds = []string{"link", "tool", "kill", "stop", "rm", "qemu", "supervisor"}

// cutLate is how far the moments reach beyond the time of a copy, as a part of it: a
// machine that is killed just after the end has all of it on its disk.
const cutLate = 0.15

// cutForever is longer than any trial.
const cutForever = 24 * time.Hour

// A cutPair is two machines and a directory, which one copy after another is cut in.
type cutPair struct {
	*cutData
	p    *scene
	dir  string
	m, n string
	r    *rand.Rand
	tab  *cutTable
}

// TestCuts cuts copies at random moments: none ends with status 0 and less than all, and
// no name holds a part of a file. A machine that was ended is looked into when it has
// started again; its root is a disk, which has lost what was not written to it.
func TestCuts(t *testing.T) {
	vmtest.Require(t)
	t.Setenv(sandbox.AgentVariable, vmtest.Agent(t))
	p := newScene(t)
	seed := *cutSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-cutseed=%d", seed)
	name := fmt.Sprintf("cuts-%d", os.Getpid())
	p.agentctl(t, "image import "+vmtest.Root(t)+" "+name)
	t.Cleanup(func() { _ = exec.Command("agentctl", "image", "rm", name).Run() }) // What is left is seen.
	tab := &cutTable{rows: map[string]*cutRow{}, took: map[string]time.Duration{}}
	var left atomic.Int64
	left.Store(int64(*cutCount))
	ends, limited := t.Deadline()
	if !limited {
		ends = time.Now().Add(cutForever)
	}
	ctx, cancel := context.WithDeadline(t.Context(), ends.Add(-patience)) // The last ones, and the table.
	defer cancel()
	var all sync.WaitGroup
	for w := range min(6, 1+*cutCount/20) {
		c := newCutPair(t, p, w, seed, tab)
		all.Go(func() {
			if err := c.run(ctx, name, &left); err != nil {
				t.Errorf("pair %d: %v", w, err)
			}
		})
	}
	all.Wait()
	t.Logf("\n%s", tab)
	for _, fault := range tab.faults {
		t.Error(fault)
	}
}

func newCutPair(t *testing.T, p *scene, w int, seed uint64, tab *cutTable) *cutPair {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(w)))
	c := &cutPair{
		p: p, dir: t.TempDir(), m: fmt.Sprintf("m%d", w), n: fmt.Sprintf("n%d", w),
		r: r, tab: tab, cutData: newCutData(r),
	}
	if err := c.write(c.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("agentctl", "rm", "-f", c.m, c.n).Run() })
	return c
}

// do runs a command whole.
func (c *cutPair) do(command string) error {
	out, err := exec.Command("agentctl", c.words(command)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("agentctl %s: %w: %s", command, err, out)
	}
	return nil
}

func (c *cutPair) words(command string) []string {
	words := strings.Fields(command)
	for i, w := range words {
		w = strings.ReplaceAll(w, "DIR", c.dir)
		w = strings.Replace(w, "M:", c.m+":", 1)
		words[i] = strings.Replace(w, "N:", c.n+":", 1)
	}
	return words
}

// run cuts until nothing is left or time is short.
func (c *cutPair) run(ctx context.Context, image string, left *atomic.Int64) error {
	if err := errors.Join(c.create(image, c.m), c.create(image, c.n)); err != nil {
		return err
	}
	for left.Add(-1) >= 0 {
		if ctx.Err() != nil {
			return errors.New("the time is over (-timeout)")
		}
		op, kind := cutCopies[c.r.IntN(len(cutCopies))], cutKinds[c.r.IntN(len(cutKinds))]
		victim := c.m
		if op.at == "N" && c.r.IntN(2) == 0 {
			victim = c.n
		}
		if err := c.one(ctx, op, kind, victim, image); err != nil {
			return fmt.Errorf("%s, cut by %s of %s: %w", op.command, kind, victim, err)
		}
	}
	return nil
}

// create makes and fills a machine.
func (c *cutPair) create(image, name string) error {
	err := c.do("create --kernel krunfw-6.12.68 --image " + image + " " + name)
	if err == nil {
		err = c.do("start " + name)
	}
	if err == nil {
		err = errors.Join(c.do("cp -q DIR/big "+name+":/big"), c.do("cp -q -r DIR/tree "+name+":/tree"))
	}
	return err
}

// one cuts a copy and judges what is left.
func (c *cutPair) one(ctx context.Context, op cutCopy, kind, victim, image string) error {
	old := c.r.IntN(2) == 0 && !op.tree // There is a file under the name.
	if c.tab.time(op) == 0 {            // The first one is whole.
		if err := c.clear(op, old); err != nil {
			return err
		}
		end, err := c.cut(op, "", "")
		if err != nil {
			return err
		}
		if problem := c.judge(op, end, old); end.status != 0 || problem != nil {
			return fmt.Errorf("not cut: status %d: %w: %s", end.status, problem, end.says)
		}
	}
	if err := c.clear(op, old); err != nil {
		return err
	}
	end, err := c.cut(op, kind, victim)
	if err != nil {
		return err
	}
	gone, err := c.again(ctx, kind, victim, image)
	if err != nil {
		return err
	}
	var problem error
	if !gone || c.place(op) != victim {
		problem = c.judge(op, end, old)
	}
	c.tab.add(kind, op, end, problem)
	return nil
}

// place is the machine that the outcome is in, if any.
func (c *cutPair) place(op cutCopy) string {
	switch op.at {
	case "M":
		return c.m
	case "N":
		return c.n
	}
	return ""
}

// clear makes /w or DIR/w with nothing, or an old file, in it. A sync makes the cut the
// only thing that what is there depends on.
func (c *cutPair) clear(op cutCopy, old bool) error {
	script := "rm -rf w; mkdir w"
	if old {
		script += "; echo old >w/in"
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = c.dir
	if place := c.place(op); place != "" {
		cmd = exec.Command("agentctl", "exec", place, "sh", "-c", "cd /; "+script+"; sync")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (c *cutPair) in(name string) string { return filepath.Join(c.dir, name) }

// A cutEnd is how a copy that was cut ended.
type cutEnd struct {
	status int
	late   bool // It had ended before the cut.
	says   string
}

// cut runs the command and cuts it, with kind "" not at all.
func (c *cutPair) cut(op cutCopy, kind, victim string) (end cutEnd, err error) {
	cmd := exec.Command("agentctl", c.words(op.command)...)
	var says bytes.Buffer
	cmd.Stderr = &says
	out, err := os.Create(c.in("stdout"))
	if err != nil {
		return end, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	cmd.Stdout = out
	if op.stdin != "" {
		in, err := os.Open(c.in(op.stdin))
		if err != nil {
			return end, err
		}
		defer func() { _ = in.Close() }() // It was only read.
		cmd.Stdin = in
	}
	if kind == "link" {
		end.late, err = c.cutLink(cmd, victim, c.upTo(float64(c.size(op.tree))))
	} else {
		end.late, err = c.cutTime(cmd, op, kind, victim)
	}
	end.status, end.says = cmd.ProcessState.ExitCode(), says.String()
	return end, err
}

// upTo is a random moment or place, some of them beyond the end.
func (c *cutPair) upTo(end float64) int64 { return int64(c.r.Float64() * (1 + cutLate) * end) }

// cutLink runs a command over a link that ends after some bytes. Late is true if the
// command needed no more.
func (c *cutPair) cutLink(cmd *exec.Cmd, victim string, after int64) (late bool, err error) {
	m, err := c.p.store.Get(victim)
	if err != nil {
		return false, err
	}
	link, err := newCutLink(m.Socket(), after)
	if err != nil {
		return false, err
	}
	err = runToEnd(cmd)
	return link.left.Load() >= 0, errors.Join(err, link.close())
}

// runToEnd runs a command whose status says how it ended.
func runToEnd(cmd *exec.Cmd) error {
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); exited {
		return nil
	}
	return err
}

// cutTime runs a command and cuts it at a random moment of the time that it takes.
func (c *cutPair) cutTime(cmd *exec.Cmd, op cutCopy, kind, victim string) (late bool, err error) {
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return false, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // Its status says it.
		if cmd.ProcessState.Success() {
			c.tab.takes(op, time.Since(begin))
		}
		close(ended)
	}()
	if kind == "" {
		<-ended
		return false, nil
	}
	moment := time.NewTimer(time.Duration(c.upTo(float64(c.tab.time(op)))))
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-ended:
		late = true
	}
	err = c.end(cmd.Process, kind, victim)
	<-ended
	return late, err
}

// end is the cut.
func (c *cutPair) end(tool *os.Process, kind, victim string) error {
	switch kind {
	case "tool":
		_ = tool.Kill() // It may have ended.
	case "kill":
		return c.do("kill " + victim)
	case "stop":
		return c.do("stop -t 0 " + victim)
	case "rm":
		return c.do("rm -f " + victim)
	case "qemu":
		return c.killQEMU(victim)
	case "supervisor":
		m, err := c.p.store.Get(victim)
		if err != nil {
			return err
		}
		s, err := m.Status()
		if err != nil {
			return err
		}
		return syscall.Kill(s.PID, syscall.SIGKILL)
	}
	return nil
}

// killQEMU kills the machine's own: its environment names the machine.
func (c *cutPair) killQEMU(victim string) error {
	mark := []byte(machines.Variable + "=" + filepath.Join(c.p.store.Dir(), "machines", victim) + "\x00")
	for _, dir := range c.p.found("/proc", "[0-9]*") {
		program, _ := os.ReadFile(filepath.Join(dir, "comm")) // It may have ended.
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if !bytes.Contains(program, []byte("qemu")) || !bytes.Contains(env, mark) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return errors.New("no QEMU")
}

// again has the machine run again. Gone is true if it is a new one.
func (c *cutPair) again(ctx context.Context, kind, victim, image string) (gone bool, err error) {
	switch kind {
	case "link", "tool":
		return false, nil
	case "rm":
		return true, c.create(image, victim)
	}
	m, err := c.p.store.Get(victim)
	if err == nil {
		_, err = m.Await(context.WithoutCancel(ctx))
	}
	if err != nil {
		return false, err
	}
	if err := c.do("start " + victim); err != nil {
		c.tab.fault(fmt.Errorf("after %s: %w", kind, err)) // No reason to end the trial.
		return false, c.do("start " + victim)
	}
	return false, nil
}

// judge compares what there is under the names with what there should be.
func (c *cutPair) judge(op cutCopy, end cutEnd, old bool) error {
	if op.at == "-" {
		return c.judgeOutput(op, end)
	}
	there, err := c.there(op)
	if err != nil {
		return err
	}
	if op.tree {
		return c.judgeTree(there, end)
	}
	return c.judgeFile(there, end, old)
}

// there is what is below /w or DIR/w.
func (c *cutPair) there(op cutCopy) (map[string][]byte, error) {
	if place := c.place(op); place != "" {
		out, err := exec.Command("agentctl", "tar", place+":/w/.").Output()
		if err != nil {
			return nil, err
		}
		return readArchive(bytes.NewReader(out))
	}
	return readDir(c.in("w"))
}
