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
	names []string // Under which the trust directories get it.
}

// interception is the authority that signs what the host's proxy shows to
// clients; libraries with stores of their own learn of it by variables.
var interception = authority{"tls/ca.pem", []string{"microsandbox-ca.pem", "microsandbox-ca.crt"}}

var hostAuthorities = authority{"tls/host-cas.pem", []string{"microsandbox-host-cas.pem", "microsandbox-host-cas.crt"}}

// trustDirs are where distributions look for authorities to add.
var trustDirs = [...]string{"/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors"}

// bundles are the files that hold all authorities of a system; the first that
// is there is the one in use, else the first is made.
var bundles = [...]string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
}

// maxBundle bounds what is read of a bundle or an authority file: all public
// authorities together are 0.3 MiB.
const maxBundle = 8 << 20

// trust adds the authorities that lie in the share to the stores of the image.
func (m *Machine) trust() error {
	if dir, err := m.root.Open(path.Join(plan.ShareDir, "tls")); err == nil {
		_ = dir.Close() // Nothing was done with it.
	} else if errors.Is(err, fs.ErrNotExist) {
		return nil // Mostly: one question to the host instead of four.
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

// addAuthority returns the bundle that has the authority now, "" if the share
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
			// The bundle is what counts; a directory that cannot be had is not.
			if err := m.root.RenewFile(path.Join(dir, name), pem, everybodyReads); err != nil {
				sys.Logf("left out: %v", err)
			}
		}
	}
	return m.addToBundle(pem)
}

// addToBundle adds to the first bundle that is there. One whose directory is a
// link is passed over: where it leads is the image's choice, and distributions
// that link one directory have the bundle in another of the list.
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
		if bytes.HasPrefix(pem, old) { // What a boot has left that was cut short.
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
