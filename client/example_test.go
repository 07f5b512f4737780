//go:build linux

// The examples run against a real machine; see machine_test.go.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/client"
)

func ExampleDial() {
	ctx := context.Background()
	c, err := client.Connect(ctx, socket()) // Of the relay, such as /run/sandbox/agent.sock.
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	out, err := c.CommandContext(ctx, "uname", "-n").Output()
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Printf("the guest's name is %s", out)
	// Output: the guest's name is example
}

func ExampleCmd_Run() {
	c := dialMachine()
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := c.CommandContext(ctx, "sort", "-u")
	cmd.Dir, cmd.User, cmd.AddEnv = "/tmp", "1000", []string{"LC_ALL=C"}
	cmd.Stdin = strings.NewReader("b\na\nb\n")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *client.ExitError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Println("the guest has no such program")
	case errors.As(err, &exit) && exit.Signaled:
		fmt.Println("it was killed by signal", exit.Signal)
	case errors.As(err, &exit):
		fmt.Println("it failed with code", exit.ExitCode())
	case err != nil:
		fmt.Println(err)
	}
	// Output:
	// a
	// b
}

// What is known of how a command ended.
func ExampleExitError() {
	c := dialMachine()
	defer func() { _ = c.Close() }()
	for _, script := range []string{"exit 255", "kill -9 $$"} {
		err := c.Command("sh", "-c", script).Run()
		if exit, ok := errors.AsType[*client.ExitError](err); ok {
			fmt.Println(exit, exit.Signaled)
		}
	}
	// Output:
	// exit status 255 false
	// killed by signal 9 true
}

func ExampleCmd_Resize() {
	c := dialMachine()
	defer func() { _ = c.Close() }()
	shell := c.Command("sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 1; done")
	shell.TTY, shell.Rows, shell.Cols = true, 40, 120
	out, err := shell.StdoutPipe()
	if err != nil {
		log.Print(err)
		return
	}
	if err := shell.Start(); err != nil {
		log.Print(err)
		return
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\r\n"))); err != nil {
		log.Print(err)
		return
	}
	if err := shell.Resize(50, 132); err != nil {
		log.Print(err)
		return
	}
	size, err := io.ReadAll(out)
	fmt.Println(strings.TrimSpace(string(size)), err, shell.Wait())
	// Output: 50 132 <nil> <nil>
}

// Whatever takes an fs.FS takes the guest's files.
func ExampleClient_FS() {
	c := dialMachine()
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	files := c.FS().WithContext(ctx)
	found, err := fs.Glob(files, "etc/pass*")
	if err != nil {
		log.Print(err)
	}
	fmt.Println(found)
	_, err = fs.Stat(files, "no/such/file")
	fmt.Println(errors.Is(err, fs.ErrNotExist), err)
	// Output:
	// [etc/passwd]
	// true stat /no/such/file: No such file or directory (os error 2)
}

func ExampleClient_Create() {
	c := dialMachine()
	defer func() { _ = c.Close() }()
	ctx := context.Background()
	f, err := c.Create(ctx, "/tmp/example")
	if err != nil {
		log.Print(err)
		return
	}
	if _, err := io.Copy(f, strings.NewReader("0123456789")); err != nil {
		log.Print(err)
	}
	middle := make([]byte, 4)
	if _, err := f.ReadAt(middle, 3); err != nil {
		log.Print(err)
	}
	fmt.Printf("%s\n", middle)
	if err := f.Close(); err != nil { // What could not be written is said here at the latest.
		log.Print(err)
	}
	info, err := c.Stat(ctx, "/tmp/example")
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(info.Name(), info.Size(), info.Mode())
	// Output:
	// 3456
	// example 10 -rw-r--r--
}

// What the guest refuses has Linux's error number.
func ExampleGuestError() {
	c := dialMachine()
	defer func() { _ = c.Close() }()
	err := c.Remove(context.Background(), "/proc/version")
	if guest, ok := errors.AsType[*client.GuestError](err); ok {
		fmt.Println(errors.Is(err, fs.ErrPermission), guest.Errno == syscall.EPERM)
		fmt.Println(guest.Message)
	}
	// Output:
	// true true
	// remove: Operation not permitted (os error 1)
}

// A web server in the guest, which listens only to the guest.
func ExampleClient_DialContext() {
	c := dialMachine()
	defer func() { _ = c.Close() }()
	server := c.Command("httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/etc")
	if err := server.Start(); err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = server.Kill() }()
	web := &http.Client{
		Transport: &http.Transport{DialContext: c.DialContext, DisableKeepAlives: true},
		Timeout:   time.Minute,
	}
	resp, err := web.Get("http://127.0.0.1:8080/hostname")
	for errors.Is(err, syscall.ECONNREFUSED) { // It does not listen yet.
		resp, err = web.Get("http://127.0.0.1:8080/hostname")
	}
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, strings.TrimSpace(string(body)), err)
	// Output: 200 example <nil>
}
