#!/bin/sh
# Package:   github.com/containerd/ttrpc v1.2.10 (Go module)
# Expected:  Server.Shutdown, like that of net/http, lets a call that is under way end, and
#            its client gets the answer: Shutdown returns only when all connections are idle.
# Happens:   the connection of a first call counts as idle until its handler has returned.
#            Shutdown closes it at once and returns nil, 300 ms before the handler ends; the
#            client gets "ttrpc: closed". After an earlier call on the same connection it is
#            the same. A shim whose last call is "shut down" so loses the answer to it.
# Seen:      a first call: Shutdown returned <nil> before the handler; the client got ttrpc: closed
#            a second call: Shutdown returned <nil> before the handler; the client got ttrpc: closed
# Needs:     Go 1.26 and its module proxy; some seconds.
set -eu
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'MOD'
module finding

go 1.26

require (
	github.com/containerd/ttrpc v1.2.10
	google.golang.org/protobuf v1.36.11
)
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// try shuts a server down while a call is under way, after so many calls before.
func try(name string, before int) {
	server, err := ttrpc.NewServer()
	must(err)
	begun, ended := make(chan struct{}), make(chan struct{})
	server.RegisterService("s", &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"Quick": func(context.Context, func(any) error) (any, error) { return &emptypb.Empty{}, nil },
		"Slow": func(context.Context, func(any) error) (any, error) {
			close(begun)
			time.Sleep(300 * time.Millisecond)
			close(ended)
			return &emptypb.Empty{}, nil
		},
	}})
	at := name[2:3] + ".sock"
	l, err := net.Listen("unix", at)
	must(err)
	go server.Serve(context.Background(), l)
	conn, err := net.Dial("unix", at)
	must(err)
	client := ttrpc.NewClient(conn)
	for range before {
		must(client.Call(context.Background(), "s", "Quick", &emptypb.Empty{}, &emptypb.Empty{}))
	}
	answer := make(chan error, 1)
	go func() { answer <- client.Call(context.Background(), "s", "Slow", &emptypb.Empty{}, &emptypb.Empty{}) }()
	<-begun
	err = server.Shutdown(context.Background())
	when := "before"
	select {
	case <-ended:
		when = "after"
	default:
	}
	fmt.Printf("%s: Shutdown returned %v %s the handler; the client got %v\n", name, err, when, <-answer)
}

func main() {
	try("a first call", 0)
	try("a second call", 1)
}
GO
go mod tidy >/dev/null 2>&1
go run . | tee seen
want='Shutdown returned <nil> before the handler; the client got ttrpc: closed'
[ "$(grep -c "$want" seen)" = 2 ] || {
	echo "changed" >&2
	exit 1
}
