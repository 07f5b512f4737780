package boot

import "testing"

func TestRenamed(t *testing.T) {
	const hosts = "127.0.0.1\tlocalhost first\n::1\tlocalhost first\n10.0.0.7\tfirst\n127.0.1.1 firstborn\n# first\n"
	const want = "127.0.0.1\tlocalhost second\n::1\tlocalhost second\n10.0.0.7\tfirst\n127.0.1.1 firstborn\n# first\n"
	if got := renamed(hosts, "first", "second"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
