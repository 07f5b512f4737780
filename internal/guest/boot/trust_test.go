package boot_test

import (
	"os"
	"slices"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
)

const (
	ca     = "-----BEGIN CERTIFICATE-----\nY2E=\n-----END CERTIFICATE-----\n"
	cas    = "-----BEGIN CERTIFICATE-----\nY2Fz\n-----END CERTIFICATE-----\n"
	old    = "-----BEGIN CERTIFICATE-----\nb2xk\n-----END CERTIFICATE-----\n"
	deb    = "/etc/ssl/certs/ca-certificates.crt"
	rpm    = "/etc/pki/tls/certs/ca-bundle.crt"
	alpine = "/etc/ssl/cert.pem"
)

// trustFiles are all places that an authority is copied to, by its name.
func trustFiles(name string) (all []string) {
	for _, dir := range []string{"/usr/local/share/ca-certificates/", "/etc/pki/ca-trust/source/anchors/"} {
		for _, ext := range []string{".pem", ".crt"} {
			all = append(all, dir+name+ext)
		}
	}
	return all
}

//holds:boot 18: authorities in the bundle and four files each, four variables; a last line without a newline
func TestTrust(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, tt := range []struct {
			name    string
			bundles map[string]string // Before.
			chosen  string
			want    string // After, twice.
		}{
			{"the first that is there", map[string]string{deb: old, rpm: old, alpine: old}, deb, old + ca + cas},
			{"the second", map[string]string{rpm: old, alpine: old}, rpm, old + ca + cas},
			{"the third", map[string]string{alpine: old}, alpine, old + ca + cas},
			{"none", nil, deb, ca + cas},
			{"no final newline", map[string]string{deb: old[:len(old)-1]}, deb, old + ca + cas},
			{"not UTF-8", map[string]string{deb: "# \xff\n"}, deb, "# \xff\n" + ca + cas},
			{"a part of one", map[string]string{deb: ca[:len(ca)/2]}, deb, ca + cas},
			{"there already", map[string]string{deb: ca + old + cas}, deb, ca + old + cas},
		} {
			t.Run(tt.name, func(t *testing.T) {
				for _, dir := range []string{"/etc/ssl", "/etc/pki", "/usr/local"} {
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
				}
				for name, content := range tt.bundles {
					write(t, name, content)
				}
				write(t, "/.msb/tls/ca.pem", ca)
				write(t, "/.msb/tls/host-cas.pem", cas)
				for range 2 {
					m := mustUp(t, only(plan.Trust{}))
					if got := read(t, tt.chosen); got != tt.want {
						t.Errorf("%s is %q, want %q", tt.chosen, got, tt.want)
					}
					want := []string{
						"SSL_CERT_FILE=" + tt.chosen, "REQUESTS_CA_BUNDLE=" + tt.chosen, "CURL_CA_BUNDLE=" + tt.chosen,
						"NODE_EXTRA_CA_CERTS=/.msb/tls/ca.pem",
					}
					if !slices.Equal(m.Env, want) {
						t.Errorf("environment %q, want %q", m.Env, want)
					}
				}
				for name, content := range map[string]string{"microsandbox-ca": ca, "microsandbox-host-cas": cas} {
					for _, file := range trustFiles(name) {
						if got := read(t, file); got != content {
							t.Errorf("%s is %q", file, got)
						}
					}
				}
				for name, content := range tt.bundles {
					if name != tt.chosen && read(t, name) != content {
						t.Errorf("%s was changed", name)
					}
				}
			})
		}
	})
}

//holds:boot 18: without the files nothing changes
func TestNoTrust(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		write(t, deb, old)
		if m := mustUp(t, only(plan.Trust{})); len(m.Env) != 0 || read(t, deb) != old {
			t.Errorf("environment %q, bundle %q", m.Env, read(t, deb))
		}
		if _, err := os.Stat("/usr/local"); err == nil {
			t.Error("trust directories were made")
		}
		write(t, "/.msb/tls/host-cas.pem", cas)
		if m := mustUp(t, only(plan.Trust{})); len(m.Env) != 0 || read(t, deb) != old+cas {
			t.Errorf("environment %q, bundle %q", m.Env, read(t, deb))
		}
	})
}
