package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/imagetest"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// tests runs them as those of machines are.
type tests struct{ *testing.M }

func (t tests) Run() int { return vmtest.Main(t.M) }

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"agentctl": main})
}

// required turns skips into failures.
const required = "AGENTD_REQUIRE_MACHINES"

// TestScripts runs testdata/script: each a session at a terminal, in a store of
// its own, which it must leave empty.
func TestScripts(t *testing.T) {
	possible := sandbox.Supported()
	if possible != nil && os.Getenv(required) == "1" {
		t.Fatalf("%s=1, but no machine can run here: %v", required, possible)
	}
	cache, err := image.Open("")
	if err != nil {
		t.Fatal(err)
	}
	agent, kernel := "", image.Kernel{}
	if possible == nil {
		agent = vmtest.Agent(t)
		if kernel, err = cache.Kernel(""); err != nil {
			t.Fatal(err)
		}
	}
	foreign := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	foreignAgent := ""
	if possible == nil && sandbox.SupportedFor("linux/"+foreign) == nil {
		foreignAgent = vmtest.AgentFor(t, foreign)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv(image.CacheVariable, cache.Path())
			e.Setenv("CACHE", cache.Path())
			e.Setenv(sandbox.AgentVariable, agent)
			e.Setenv("KERNEL", kernel.Path)
			e.Setenv("FOREIGN", "linux/"+foreign)
			e.Setenv("MACHINE", map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH])
			e.Setenv(sandbox.AgentVariable+"_"+strings.ToUpper(foreign), foreignAgent)
			e.Setenv("PATH", e.Getenv("PATH")+":/usr/sbin:/sbin")
			return ownStore(e)
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "machines":
				return possible == nil, nil
			case "foreign":
				return foreignAgent != "", nil
			case "freezes": // The agent freezes commands for our own hosts.
				return possible == nil && wire.Newest >= wire.BarrierSince, nil
			}
			return false, fmt.Errorf("unknown condition %s", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": runStatus, "fetch": fetch, "valid": valid, "container": container(t), "platforms": platforms(t),
		},
	})
}

// ownStore gives a script a store, with a path that leaves room for a socket's,
// and looks into it afterwards.
func ownStore(e *testscript.Env) error {
	dir, err := os.MkdirTemp("", "store-")
	if err != nil {
		return err
	}
	e.Setenv(machines.StateVariable, dir)
	e.Defer(func() {
		t := e.T()
		s, err := machines.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		all, err := s.List()
		for _, m := range all {
			err = errors.Join(err, fmt.Errorf("left: %s", m.Name()), remove(context.Background(), m, true))
		}
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Fatal(err)
		}
	})
	return nil
}

// runStatus is STATUS COMMAND...: it must end with that status.
func runStatus(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("status %d, want %d", got, want)
	}
}

// container is FILE CONFIG NAME: it makes an archive of a container image with a shell,
// whose configuration is in another file.
func container(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()
	return func(ts *testscript.TestScript, _ bool, args []string) {
		var config map[string]any
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &config))
		busybox, err := image.FindBusybox()
		ts.Check(err)
		img := imagetest.Image{Names: args[2:], Config: config, Layers: [][]byte{shell(t, ts, busybox)}}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), img.Docker(t), 0o600))
	}
}

// shell is a layer with a busybox and a few of its applets.
func shell(t *testing.T, ts *testscript.TestScript, busybox string) []byte {
	t.Helper()
	program, err := os.ReadFile(busybox)
	ts.Check(err)
	files := []string{"bin/", "", "bin/busybox", string(program), "tmp/", ""}
	for _, name := range []string{"sh", "sleep", "test", "ls", "touch", "uname"} {
		files = append(files, "bin/"+name, "-> busybox")
	}
	return imagetest.Files(t, files...)
}

// platforms is FILE NAME: it makes an archive with one image for each platform of
// machines.
func platforms(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()
	return func(ts *testscript.TestScript, _ bool, args []string) {
		cache, err := image.Open(ts.Getenv("CACHE"))
		ts.Check(err)
		var all []imagetest.Image
		for _, architecture := range []string{"amd64", "arm64"} {
			busybox, err := cache.FindBusybox(architecture)
			ts.Check(err)
			all = append(all, imagetest.Image{Names: args[1:], Platform: "linux/" + architecture, Layers: [][]byte{shell(t, ts, busybox)}})
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), imagetest.Archive(t, imagetest.Several(t, all...)), 0o600))
	}
}

// fetch is MACHINE PATH: it gets a page through the machine's first port.
func fetch(ts *testscript.TestScript, _ bool, args []string) {
	store, err := machines.Open(ts.Getenv(machines.StateVariable))
	ts.Check(err)
	m, err := store.Get(args[0])
	ts.Check(err)
	s, err := m.Status()
	ts.Check(err)
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Ports[0].Host+args[1], nil)
	ts.Check(err)
	answer, err := http.DefaultClient.Do(r)
	for err != nil && ctx.Err() == nil { // Until the command listens.
		answer, err = http.DefaultClient.Do(r)
	}
	ts.Check(err)
	_, err = io.Copy(ts.Stdout(), answer.Body)
	ts.Check(errors.Join(err, answer.Body.Close()))
}
