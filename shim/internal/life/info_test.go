package life

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
)

// Containerd reads from -info what it may ask for.
func TestInfo(t *testing.T) {
	var b bytes.Buffer
	if err := Info(&b); err != nil {
		t.Fatal(err)
	}
	var info types.RuntimeInfo
	if err := proto.Unmarshal(b.Bytes(), &info); err != nil {
		t.Fatal(err)
	}
	var offered features.Features
	if err := json.Unmarshal(info.GetFeatures().GetValue(), &offered); err != nil {
		t.Fatal(err)
	}
	if info.GetName() != Name || info.GetFeatures().GetTypeUrl() != featuresType || !slices.Contains(offered.MountOptions, "rro") {
		t.Errorf("%v", &info)
	}
	if slices.Contains(offered.Linux.Namespaces, "user") || *offered.Linux.Apparmor.Enabled {
		t.Errorf("offered and refused by plan: %+v", offered.Linux)
	}
}
