#!/bin/sh
# Package:   github.com/containerd/containerd/v2/pkg/shim v2.4.2 (Go module)
# Expected:  a shim that is built on the library of containerd 2.4 can be started by
#            every containerd that speaks task service v2: the flags of the old way
#            (-namespace, -address, -id, start) are still defined and still parsed.
# Happens:   RunShim refuses each start without bootstrap parameters on standard
#            input, which containerd sends since 2.3. So one binary for 1.6, 1.7 and 2.x
#            cannot be built on this package.
# Seen:      shim was started through the deprecated API but was built against the new API
# Needs:     Go 1.26 and its module proxy; half a minute the first time.
set -eu
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'MOD'
module finding

go 1.26

require (
	github.com/containerd/containerd/api v1.12.0
	github.com/containerd/containerd/v2 v2.4.2
)
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"io"

	bootstrap "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/pkg/shim"
)

// A manager is asked to start, and says that it was.
type manager struct{}

var errStarted = errors.New("the library has called Start")

func (manager) Name() string { return "io.containerd.finding.v2" }

func (manager) Start(context.Context, *bootstrap.BootstrapParams) (*bootstrap.BootstrapResult, error) {
	return nil, errStarted
}

func (manager) Stop(context.Context, string) (shim.StopStatus, error) {
	return shim.StopStatus{}, errStarted
}

func (manager) Info(context.Context, io.Reader) (*types.RuntimeInfo, error) { return nil, errStarted }

func main() { shim.RunShim(context.Background(), manager{}) }
GO
go mod tidy >/dev/null 2>&1
go build -o containerd-shim-finding-v2 .
# As containerd 1.6 and 1.7 do it: flags, and nothing on standard input.
if ./containerd-shim-finding-v2 -namespace default -address "$dir/sock" -publish-binary /bin/true -id one start \
	</dev/null >out 2>&1; then
	echo "changed: it has started" >&2
	exit 1
fi
grep -o 'shim was started through the deprecated API but was built against the new API' out || {
	cat out >&2
	exit 1
}
