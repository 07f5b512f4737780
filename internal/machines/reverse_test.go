package machines_test

import (
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/machines"
)

func TestParseReverse(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"8080:3000", "127.0.0.1:8080 -> 127.0.0.1:3000"},
		{"8080", "127.0.0.1:8080 -> 127.0.0.1:8080"},
		{"0:3000", "127.0.0.1:0 -> 127.0.0.1:3000"},
		{"0.0.0.0:8080:3000", "0.0.0.0:8080 -> 127.0.0.1:3000"},
		{"8080:10.0.0.1:3000", "127.0.0.1:8080 -> 10.0.0.1:3000"},
		{"8080:db.example:5432", "127.0.0.1:8080 -> db.example:5432"},
		{"[::1]:8080:[fd00::1]:3000", "[::1]:8080 -> [fd00::1]:3000"},
		{"[::]:8080", "[::]:8080 -> 127.0.0.1:8080"},
		{"localhost:8080:3000", "localhost:8080 -> 127.0.0.1:3000"},
		{"/run/s:/tmp/s", "/run/s -> /tmp/s"},
		{"/run/s:3000", "/run/s -> 127.0.0.1:3000"},
		{"/run/s:[::1]:3000", "/run/s -> [::1]:3000"},
		{"@s:3000", "@s -> 127.0.0.1:3000"},
		{"3000:/tmp/s", "127.0.0.1:3000 -> /tmp/s"},
	} {
		got, err := machines.ParseReverse(tt.in)
		if err != nil || got.String() != tt.want || !got.Reverse {
			t.Errorf("%q: %v, %v, want %s", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"", ":", "x", "x:", "0", "8080:0", "1:2:3:4:5", "::1:80", "70000:1", "1:70000", "/run/s", "/run/s:", "[::1]", "8080:3000/tcp", ":8080:1", "1:2:", "-1:2"} {
		if got, err := machines.ParseReverse(in); err == nil || !strings.Contains(err.Error(), "reverse forward") {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}
