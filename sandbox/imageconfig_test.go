package sandbox

import (
	"slices"
	"strings"
	"testing"
)

func TestImageCommand(t *testing.T) {
	both := ImageConfig{Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"own"}}
	for _, tt := range []struct {
		name   string
		config ImageConfig
		args   string
		want   string
	}{
		{"nothing", ImageConfig{}, "", ""},
		{"arguments alone", ImageConfig{}, "a b", "a b"},
		{"the image's", both, "", "/entry -x own"},
		{"after the entry point", both, "a b", "/entry -x a b"},
		{"in place of the command", ImageConfig{Cmd: both.Cmd}, "a", "a"},
	} {
		if got := strings.Join(tt.config.Command(strings.Fields(tt.args)...), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if !slices.Equal(both.Entrypoint, []string{"/entry", "-x"}) {
		t.Errorf("the entry point is now %q", both.Entrypoint)
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=image", "bad", "=x", "B=image"}, []string{"B=ours", "C=a=b", "C=last"})
	if want := []string{"A=image", "B=ours", "C=last"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
