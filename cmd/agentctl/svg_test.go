package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// The picture is well-formed, whatever the names are, and each part is in it.
func TestDrawTimes(t *testing.T) {
	times := bootTimes{Ready: 100 * time.Millisecond, Note: "<&>", Parts: []bootPart{
		{"host", 0, 10 * time.Millisecond}, {"kernel", 10 * time.Millisecond, 80 * time.Millisecond}, {`step "a<b"`, 90 * time.Millisecond, 10 * time.Millisecond},
	}}
	var b strings.Builder
	if err := drawTimes(&b, times); err != nil {
		t.Fatal(err)
	}
	texts, bars := "", 0
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.CharData:
			texts += string(token)
		case xml.StartElement:
			if token.Name.Local == "rect" && len(token.Attr) > 3 {
				bars++
			}
		}
	}
	if bars != len(times.Parts) {
		t.Errorf("%d bars", bars)
	}
	for _, want := range []string{"<&>", `step "a<b"`, "80.0 ms", "ready in 100.0 ms"} {
		if !strings.Contains(texts, want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
}
