//go:build embed_agentd

package sandbox

import _ "embed"

// embedded is the guest's binary, which the build puts here before it compiles this
// package.
//
//go:embed agentd
var embedded string
