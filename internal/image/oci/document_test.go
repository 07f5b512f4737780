package oci

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// IMAGES.md has the bounds of documents.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	doctest.Open(t, "docs/IMAGES.md", "What is refused").Says(t,
		fmt.Sprintf("documents of %s and %s values, %s layers", doctest.Size(maxDocument), doctest.Count(maxValues), doctest.Count(maxLayers)))
}
