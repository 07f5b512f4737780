package boot

import (
	"bytes"
	"errors"
	"io/fs"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
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
	// maxProfile is far more than a real profile has. A larger one is left as it is.
	maxProfile = 1 << 20
)

// profileBlock makes login shells find the scripts. A profile that cannot be read does not
// end the boot. The block is appended in one write if possible; else the file is replaced.
// On a root of layers it is always replaced, because a write there copies the whole file
// to the disk first.
func (m *Machine) profileBlock() error {
	if !m.layered && m.root.Append(profileFile, maxProfile, missingBlock) == nil {
		return nil
	}
	old, err := m.root.ReadFile(profileFile, maxProfile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		sys.Logf("left as it is: %v", err)
		return nil
	}
	more := missingBlock(old)
	if len(more) == 0 {
		return nil
	}
	return tolerate(m.root.WriteFile(profileFile, append(old, more...), everybodyReads))
}

// missingBlock returns the text that has to be added to a profile.
func missingBlock(old []byte) []byte {
	switch {
	case bytes.Contains(old, []byte(profileStart)) && bytes.Contains(old, []byte(profileEnd)):
		return nil
	case len(old) > 0 && old[len(old)-1] != '\n':
		return []byte("\n" + profileText)
	}
	return []byte(profileText)
}
