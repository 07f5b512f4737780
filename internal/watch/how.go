package watch

import "github.com/agentd-go/agentd/internal/tree"

// Options say what is watched.
type Options struct {
	Recursive bool
	Exclude   tree.Patterns // Names that are left out.
}
