package boot

import (
	"bytes"
	"errors"
	"io/fs"

	"github.com/agentd-go/agentd/internal/guest/plan"
)

// The lines that mark our block in /etc/profile.
const (
	profileStart = "# >>> microsandbox scripts path >>>"
	profileEnd   = "# <<< microsandbox scripts path <<<"

	profileText = profileStart + `
case ":$PATH:" in
  *:` + plan.ScriptsDir + `:*) ;;
  *) export PATH="` + plan.ScriptsDir + `:$PATH" ;;
esac
` + profileEnd + "\n"

	profileFile = "/etc/profile"
	// maxProfile is far more than any; a larger one is left as it is.
	maxProfile = 1 << 20
)

// profileBlock makes login shells find the scripts. A profile that cannot be
// read is no reason not to boot.
func (m *Machine) profileBlock() error {
	old, err := m.root.ReadFile(profileFile, maxProfile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		logf("left as it is: %v", err)
		return nil
	}
	if bytes.Contains(old, []byte(profileStart)) && bytes.Contains(old, []byte(profileEnd)) {
		return nil
	}
	return m.comfort(profileFile, string(endLine(old))+profileText)
}
