package session

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

const protocol = "docs/PROTOCOL.md"

// The document has the text of each error number that the agent names by itself.
func TestDocumentErrors(t *testing.T) {
	t.Parallel()
	section := doctest.Open(t, protocol, "8.9")
	var have [][]string
	for _, row := range section.Rows(4)[1:] {
		have = append(have, row[:2], row[2:])
	}
	texts := map[string]string{}
	for _, pair := range have {
		if pair[0] != "" { // The last row may be half full.
			texts[pair[0]] = pair[1]
		}
	}
	for _, e := range errnos {
		if n := strconv.Itoa(int(e.errno)); texts[n] != e.text {
			t.Errorf("%s: the document has %q, want %q", n, texts[n], e.text)
		}
	}
	if len(texts) != len(errnos) {
		t.Errorf("the document has %d texts, want %d", len(texts), len(errnos))
	}
}

// The document has the bounds of what sessions hold.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	memory, all := doctest.Size(InputMemory), doctest.Size(InputBudget)
	for section, sentences := range map[string][]string{
		"8.5":  {fmt.Sprintf("up to %s of a command's unread input in memory (%s for all), then up to %s", memory, all, doctest.Size(inputStored))},
		"11":   {fmt.Sprintf("each session has %s of queue, all together %s", doctest.Size(mux.DefaultOutbox), doctest.Size(mux.DefaultTotal)), doctest.Size(mux.Quantum) + " each"},
		"12.2": {"All flows together get " + doctest.Size(windowBudget), "never less than " + doctest.Size(minWindow), "within 1 and 8 MiB"},
		"15.1": {fmt.Sprintf("at once when %s or %d frames have come back", doctest.Size(creditBytes), creditFrames), "else " + doctest.Time(creditDelay)},
	} {
		doctest.Open(t, protocol, section).Says(t, sentences...)
	}
	doctest.Open(t, "ARCHITECTURE.md", "What never happens").Says(t,
		fmt.Sprintf("Outboxes: %s each, %s together", doctest.Size(mux.DefaultOutbox), doctest.Size(mux.DefaultTotal)),
		fmt.Sprintf("%d at most are longer than %s", lentFrames, doctest.Size(minRead)),
		fmt.Sprintf("Inboxes: %s each and %s together in memory, %s each on disk", memory, all, doctest.Size(inputStored)),
		fmt.Sprintf("Windows of raw flows into the guest: %s together", doctest.Size(windowBudget)),
	)
}

// The document has the kind of each error number with a name, and the names of all.
func TestDocumentFailures(t *testing.T) {
	t.Parallel()
	section := doctest.Open(t, protocol, "8.8")
	kinds, words := map[string]string{}, section.Words()
	for _, row := range section.Rows(2) {
		kinds[strings.Trim(row[0], "`")] += " " + row[1]
	}
	for _, e := range errnos {
		if e.name == "" || e.name == "EBADF" { // Only core.exec.stdin.error has its name.
			continue
		}
		if !words[e.name] {
			t.Errorf("section 8.8 does not have the name %s", e.name)
		}
		if e.kind != wire.FailureOther && !strings.Contains(kinds[string(e.kind)], e.name) {
			t.Errorf("section 8.8 does not have %s as %s: %s", e.name, e.kind, kinds[string(e.kind)])
		}
	}
}
