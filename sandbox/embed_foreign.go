//go:build embed_foreign

package sandbox

import _ "embed"

// embeddedForeign is the guest's binary for the other architecture, compressed by zstd.
//
//go:embed agentd.foreign.zst
var embeddedForeign string
