package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"unicode/utf8"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// authority is one file of certificates that the host may put into the share.
type authority struct {
	file  string   // In the share.
	names []string // Its names in the trust directories.
}

// interception is the authority of the host's proxy. Variables tell it to libraries that
// have a store of their own.
var interception = authority{"tls/ca.pem", []string{"microsandbox-ca.pem", "microsandbox-ca.crt"}}

var hostAuthorities = authority{"tls/host-cas.pem", []string{"microsandbox-host-cas.pem", "microsandbox-host-cas.crt"}}

// trustDirs are the directories in which distributions look for additional authorities.
var trustDirs = [...]string{"/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors"}

// bundles are the files that hold all authorities of a system. The first that exists is
// used; if none does, the first is made.
var bundles = [...]string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
}

// maxBundle bounds a bundle or an authority file: all public authorities together have
// 0.3 MiB.
const maxBundle = 8 << 20

// trust adds the authorities of the share to the stores of the image.
func (m *Machine) trust() error {
	if dir, err := m.root.Open(path.Join(plan.ShareDir, "tls")); err == nil {
		_ = dir.Close() // Nothing was done with it.
	} else if errors.Is(err, fs.ErrNotExist) {
		return nil // The usual case: one request to the host instead of four.
	}
	bundle, err := m.addAuthority(interception)
	if err != nil {
		return err
	}
	if bundle != "" {
		for _, key := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} {
			m.Env = append(m.Env, key+"="+bundle)
		}
		m.Env = append(m.Env, "NODE_EXTRA_CA_CERTS="+path.Join(plan.ShareDir, interception.file))
	}
	_, err = m.addAuthority(hostAuthorities)
	return err
}

// addAuthority adds an authority and returns the bundle that has it now, "" if the share
// has no such file.
func (m *Machine) addAuthority(a authority) (bundle string, err error) {
	pem, err := m.root.ReadFile(path.Join(plan.ShareDir, a.file), maxBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !utf8.Valid(pem) {
		return "", fmt.Errorf("%s: not UTF-8 text", a.file)
	}
	for _, dir := range trustDirs {
		for _, name := range a.names {
			// Only the bundle is necessary: an error here is no failure.
			if err := m.root.RenewFile(path.Join(dir, name), pem, everybodyReads); err != nil {
				sys.Logf("left out: %v", err)
			}
		}
	}
	return m.addToBundle(pem)
}

// addToBundle adds to the first bundle that exists. It skips a bundle whose directory is a
// link, because the image decides where the link leads. Distributions that link one
// directory have the bundle in another of the list.
func (m *Machine) addToBundle(pem []byte) (string, error) {
	for _, name := range bundles {
		old, err := m.root.ReadFile(name, maxBundle)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if bytes.Contains(old, pem) { // From an earlier boot of the same root.
			return name, nil
		}
		if bytes.HasPrefix(pem, old) { // Left by a boot that was interrupted.
			old = nil
		}
		err = m.root.WriteFile(name, append(endLine(old), pem...), everybodyReads)
		if errors.Is(err, sys.ErrLink) {
			sys.Logf("left as it is: %v", err)
			continue
		}
		return name, unlessReadOnly(err)
	}
	err := m.root.RenewFile(bundles[0], pem, everybodyReads)
	if errors.Is(err, sys.ErrLink) {
		sys.Logf("no bundle of certificates can be written: %v", err)
		return "", nil
	}
	return bundles[0], unlessReadOnly(err)
}

// endLine makes the last line of b end in a newline.
func endLine(b []byte) []byte {
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return append(b, '\n')
	}
	return b
}
