package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// byHand leads the boot of a machine that this program's package sandbox does not run: a
// shell script starts file servers and QEMU, and the agent's port is a socket. Another
// monitor needs no more than that: a kernel, a root with the agent, and a byte link.
func byHand(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "tour-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.RemoveFiles(dir)) }()
	script, err := someScript(ctx, filepath.Join(dir, "files"))
	if err != nil {
		return err
	}
	links := filepath.Join(dir, "links")
	if err := os.Mkdir(links, 0o700); err != nil {
		return err
	}
	monitor := exec.CommandContext(ctx, "sh", "-c", script)
	monitor.Env = append(os.Environ(), "TMPDIR="+links) // Where the script makes its sockets.
	monitor.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := monitor.Start(); err != nil {
		return err
	}
	defer func() {
		_ = syscall.Kill(-monitor.Process.Pid, syscall.SIGKILL) // File servers too, if they are left.
		_ = monitor.Wait()                                      // It was killed, or the guest has ended it.
	}()
	link, err := dial(ctx, filepath.Join(links, "*", "agent.sock"))
	if err != nil {
		return err
	}
	return visitByHand(ctx, link)
}

// someScript returns lines for sh that start a machine whose files are in a directory.
// They are those of a machine that has run once, and that has its root in a share, because it
// was not to start from a template; a script of your own does as well.
func someScript(ctx context.Context, files string) (string, error) {
	m, err := sandbox.Start(ctx, sandbox.Config{Files: files, Warm: sandbox.WarmNone})
	if err != nil {
		return "", err
	}
	return m.RepeatScript(), m.Close()
}

// dial connects to the socket, once the script has made it.
func dial(ctx context.Context, pattern string) (client.Link, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if found, _ := filepath.Glob(pattern); len(found) == 1 {
			var d net.Dialer
			if link, err := d.DialContext(ctx, "unix", found[0]); err == nil {
				return link, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", pattern, context.Cause(ctx))
		}
	}
}

// visitByHand boots the agent on the link, runs a command and ends the machine.
func visitByHand(ctx context.Context, link client.Link) error {
	c, err := client.Boot(ctx, link, client.Handshake{
		Bootstrap: &wire.Bootstrap{Hostname: new("by-hand"), SecurityProfile: wire.ProfileDefault},
	})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	out, err := c.CommandContext(ctx, "uname", "-n").Output()
	if err == nil && strings.TrimSpace(string(out)) != "by-hand" {
		err = fmt.Errorf("it calls itself %q", out)
	}
	if err != nil {
		return err
	}
	if err := c.Shutdown(ctx); err != nil {
		return err
	}
	select {
	case <-c.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
