package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// A colon before a slash is a registry's port.
func TestSplitName(t *testing.T) {
	for name, want := range map[string]string{
		"":                            "<none> <none> <none>",
		"small:latest":                "small latest <none>",
		"host:5000/a/b:1.2":           "host:5000/a/b 1.2 <none>",
		"host:5000/a":                 "host:5000/a <none> <none>",
		"debian@sha256:abc":           "debian <none> sha256:abc",
		"host:5000/debian:1@sha256:a": "host:5000/debian 1 sha256:a",
	} {
		r, tag, d := splitName(name)
		if got := fmt.Sprint(r, " ", tag, " ", d); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// One value of each key has to be right, and every label.
func TestFilterImages(t *testing.T) {
	images := []sandbox.Image{
		{ID: "sha256:1", Names: []string{"a:1", "host:5000/b/c:2"}, Config: sandbox.ImageConfig{Labels: map[string]string{"k": "v", "l": ""}}},
		{ID: "sha256:2", Imported: time.Unix(1, 0)},
	}
	for _, tt := range []struct {
		filters []string
		want    string // Names, or the error.
	}{
		{nil, "[a:1 host:5000/b/c:2 ]"},
		{[]string{"reference=a"}, "[a:1]"},
		{[]string{"reference=a", "reference=*/*/c"}, "[a:1 host:5000/b/c:2]"},
		{[]string{"reference=*"}, "[a:1]"},
		{[]string{"reference=*:2"}, "[]"},
		{[]string{"reference=[", "dangling=true"}, `--filter "reference=[": syntax error in pattern`},
		{[]string{"dangling=true"}, "[]"},
		{[]string{"label=k=v", "label=l", "reference=a:1"}, "[a:1]"},
		{[]string{"label=k=v", "label=m"}, "[]"},
	} {
		lines, err := filterBy(imageLines(images), tt.filters, imageFilter)
		names := []string{}
		for _, l := range lines {
			names = append(names, l.name)
		}
		got := fmt.Sprint(names)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v: %s, want %s", tt.filters, got, tt.want)
		}
	}
}
