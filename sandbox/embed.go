//go:build embed_agentd

package sandbox

import _ "embed"

// embedded is the guest's binary; the build puts it here first.
//
//go:embed agentd
var embedded []byte
