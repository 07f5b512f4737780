package client_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"strings"
	"time"

	"github.com/agentd-go/agentd/client"
)

func ExampleDial() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "/run/sandbox/agent.sock")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	out, err := c.CommandContext(ctx, "uname", "-r").Output()
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Printf("the guest's kernel is %s", out)
}

func ExampleCmd_Run() {
	var c *client.Client // From Dial.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := c.CommandContext(ctx, "sort", "-u")
	cmd.Dir, cmd.User, cmd.Env = "/srv", "nobody", []string{"LC_ALL=C"}
	cmd.Stdin = strings.NewReader("b\na\nb\n")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *client.ExitError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		log.Print("the guest has no such program")
	case errors.As(err, &exit) && exit.Signaled:
		log.Print("it was killed")
	case errors.As(err, &exit):
		log.Print("it failed with code ", exit.ExitCode())
	case err != nil:
		log.Print(err)
	}
}

func ExampleCmd_Resize() {
	var c *client.Client // From Dial.
	shell := c.Command("sh")
	shell.TTY, shell.Rows, shell.Cols = true, 40, 120
	shell.Stdin, shell.Stdout = os.Stdin, os.Stdout
	if err := shell.Start(); err != nil {
		log.Fatal(err)
	}
	if err := shell.Resize(50, 132); err != nil {
		log.Print(err)
	}
	if err := shell.Wait(); err != nil {
		log.Print(err)
	}
}
