package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// byVariables names our agent configured by variables.
const byVariables = ourName + " (variables)"

// prepare makes the disks and the authority of the full load.
func (b *bootRun) prepare(ctx context.Context) (err error) {
	busybox, err := b.cache.FindBusybox(string(b.architecture))
	if err != nil {
		return err
	}
	root, err := b.cache.BusyboxRoot(busybox)
	if err != nil {
		return err
	}
	b.lower, b.upper = filepath.Join(b.dir, "lower"), filepath.Join(b.dir, "upper")
	const upperSize = 256 << 20 // Sparse.
	if err := errors.Join(os.WriteFile(b.upper, nil, 0o600), os.Truncate(b.upper, upperSize)); err != nil {
		return err
	}
	for _, words := range [][]string{{"mkfs.erofs", "--quiet", b.lower, root}, {"mke2fs", "-q", "-F", "-t", "ext4", b.upper}} {
		if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", words[0], err, out)
		}
	}
	b.authority, err = authority()
	return err
}

// authority returns a self-signed certificate.
func authority() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	card := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true,
	}
	b, err := x509.CreateCertificate(rand.Reader, card, card, key.Public(), key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b}), err
}

// printBoots writes the figures of a load, and whether ours keep up with the agent that
// is configured in the same way.
func (b *bootRun) printBoots(w *strings.Builder, l load, agents []*opponent) {
	fmt.Fprintf(w, "\n%s boot%*s median (least–most), ms\n", l.name, 22-len(l.name), "")
	for _, what := range []string{"start", "init_time_ns", "ready"} {
		for _, a := range agents {
			b.printBoot(w, l.name+" "+what, a)
		}
		for _, a := range agents {
			if ours := oursLike(a); ours != "" {
				b.printRatio(w, l.name+" "+what, ours, a.name)
			}
		}
	}
	for _, ours := range []string{ourName, byVariables} {
		fmt.Fprintf(w, "  where that of %s goes:", ours)
		for _, step := range b.slowest(l.name+" step ", ours) {
			fmt.Fprintf(w, " %s %s;", strings.TrimPrefix(step, l.name+" step "), number(b.medianOf(step, ours)))
		}
		fmt.Fprintln(w)
	}
}

func (b *bootRun) printBoot(w *strings.Builder, name string, a *opponent) {
	s := b.sorted(row{name: name}, a.name)
	if len(s) > 0 {
		fmt.Fprintf(w, "  %-20s %-18s %s of %d\n", name, a.name, spread(s), len(s))
	}
}

// oursLike returns the name of our agent that is compared with a published one.
func oursLike(a *opponent) string {
	switch {
	case strings.HasPrefix(a.name, ourName):
		return ""
	case a.environment:
		return byVariables
	}
	return ourName
}

func (b *bootRun) printRatio(w *strings.Builder, name, ours, theirs string) {
	mine, other := b.medianOf(name, ours), b.medianOf(name, theirs)
	if mine == 0 || other == 0 {
		return
	}
	verdict := "met"
	if mine > other {
		verdict = "NOT MET"
	}
	fmt.Fprintf(w, "  %-20s %s <= 1.0 x %s: %.2f %s\n", name, ours, theirs, mine/other, verdict)
}

// slowest returns the rows with a prefix, the slowest first.
func (b *bootRun) slowest(prefix, agent string) (all []string) {
	for name := range b.samples {
		if strings.HasPrefix(name, prefix) {
			all = append(all, name)
		}
	}
	slices.SortFunc(all, func(x, y string) int {
		return cmp.Compare(b.medianOf(y, agent), b.medianOf(x, agent))
	})
	return all
}

// medianOf returns 0 if there are no samples.
func (b *bootRun) medianOf(name, agent string) float64 {
	if s := b.sorted(row{name: name}, agent); len(s) > 0 {
		return median(s)
	}
	return 0
}
