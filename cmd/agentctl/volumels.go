package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/transfer"
	"github.com/agentd-go/agentd/sandbox"
)

func volumeFilter(key, value string) (func(machines.Volume) bool, error) {
	switch key {
	case "name":
		return func(v machines.Volume) bool { return strings.Contains(v.Name, value) }, nil
	case "label":
		return func(v machines.Volume) bool { return hasLabel(v.Labels, value) }, nil
	case "driver":
		return func(machines.Volume) bool { return value == localDriver }, nil
	case "dangling":
		return danglingFilter(value, func(v machines.Volume) bool { return len(v.Used) == 0 })
	}
	return nil, misuse(fmt.Errorf("unknown key %q; want name=, label=, dangling= or driver=", key))
}

// localDriver is what containers' tools call directories of this host.
const localDriver = "local"

// A volumeView is a volume for a template of volume ls: with Docker's names, and as JSON
// what volume ls --json has.
type volumeView struct{ machines.Volume }

// MarshalJSON writes the volume.
func (v volumeView) MarshalJSON() ([]byte, error) { return json.Marshal(v.Volume) }

// Driver is what keeps it.
func (volumeView) Driver() string { return localDriver }

// Scope is where it can be used.
func (volumeView) Scope() string { return localDriver }

// Mountpoint is its directory.
func (v volumeView) Mountpoint() string { return v.Path }

// Labels are all of its labels.
func (v volumeView) Labels() string { return joinLabels(v.Volume.Labels) }

// Label is the value of one.
func (v volumeView) Label(key string) string { return v.Volume.Labels[key] }

// Links is how many machines are made with it.
func (v volumeView) Links() int { return len(v.Used) }

// Size is what its files take.
func (v volumeView) Size() (string, error) {
	n, err := sandbox.DiskUse(v.Path)
	return transfer.Size(n), err
}

// A volumeHead has the column titles of a table of volumeViews, by the same names.
type volumeHead struct{}

// The columns of Docker's table.
func (volumeHead) Name() string          { return "VOLUME NAME" }
func (volumeHead) Driver() string        { return "DRIVER" }
func (volumeHead) Scope() string         { return "SCOPE" }
func (volumeHead) Mountpoint() string    { return "MOUNTPOINT" }
func (volumeHead) Labels() string        { return "LABELS" }
func (volumeHead) Label(k string) string { return strings.ToUpper(k) }
func (volumeHead) Links() string         { return "LINKS" }
func (volumeHead) Size() string          { return "SIZE" }

// A volumeDetails is a volume for a template of volume inspect, with Docker's names.
type volumeDetails struct{ machines.Volume }

// Mountpoint is its directory.
func (v volumeDetails) Mountpoint() string { return v.Path }

// Driver is what keeps it.
func (volumeDetails) Driver() string { return localDriver }

// Scope is where it can be used.
func (volumeDetails) Scope() string { return localDriver }

// CreatedAt is when it was made.
func (v volumeDetails) CreatedAt() string { return v.Created.Format(time.RFC3339) }
