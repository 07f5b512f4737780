package image

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
	"github.com/agentd-go/agentd/internal/image/erofs"
)

// IMAGES.md and SECURITY.md have the bounds of an import.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	l := erofs.DefaultLimits
	doctest.Open(t, "docs/IMAGES.md", "").Says(t,
		fmt.Sprintf("%s entries, %s of files", doctest.Count(l.Entries), doctest.Size(l.Bytes)),
		doctest.Size(l.XattrBytes)+" together", doctest.Size(maxXattr)+" each",
		"must be known to the end: "+doctest.Size(l.KeptBytes),
		fmt.Sprintf("a zstd window of %s, an xz dictionary of %s", doctest.Size(zstdWindow), doctest.Size(xzDictionary)),
		"linked files: "+doctest.Size(treeRoom),
		map[int]string{3: "three"}[fetchesAtOnce]+" layers at a time",
	)
	doctest.Open(t, "README.md", "Troubleshooting").Says(t, fmt.Sprintf("`%v to boot by default`", ErrNoKernel))
	doctest.Open(t, "docs/SECURITY.md", "What each may do").Says(t, "files together "+doctest.Size(l.Bytes))
}
