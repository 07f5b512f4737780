package vmm

import (
	"errors"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// README.md quotes what a user sees.
func TestDocumentMessages(t *testing.T) {
	t.Parallel()
	why, _, _ := strings.Cut(software("/dev/kvm: permission denied"), ";")
	missing, ok := errors.AsType[*MissingError](missingRange("/etc/subuid", "…"))
	forUser, also := errors.AsType[*MissingError](missingRange("", `"$USER"`))
	if !ok || !also {
		t.Fatal("a missing range is no MissingError")
	}
	doctest.Open(t, "README.md", "Troubleshooting").Says(t, "`"+why+"`", "`"+missing.What+"`", "`"+forUser.Fix+"`")
}
