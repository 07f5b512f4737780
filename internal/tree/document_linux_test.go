package tree

import (
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
	"github.com/agentd-go/agentd/internal/pax"
)

// PROTOCOL.md has the bounds of archives.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	doctest.Open(t, "docs/PROTOCOL.md", "9.8").SameRows(t, [][]string{
		{"name, target of a link", doctest.Count(pax.MaxName) + " bytes"},
		{"PAX records of a member", doctest.Size(pax.MaxRecords)},
		{"pieces of a file with holes", doctest.Count(pax.MaxExtents) + "; what follows is one piece"},
		{"directories deep", doctest.Count(MaxDepth)},
		{"names of the open directories in `Pack`", doctest.Size(maxNames)},
		{"files with second names that `Pack` remembers", doctest.Count(maxLinks) + "; further ones are files of their own"},
		{"batch of `Unpack`", doctest.Count(batchFiles) + " files, " + doctest.Size(batchBytes) + ", " + doctest.Count(batchDirs) + " directories, " + doctest.Time(batchFor)},
	}, false)
}
