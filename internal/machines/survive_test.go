package machines

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The log of a machine that outlives its supervisor says with its last whole line how much of
// both streams it has, whatever became of the file.
func TestOutputCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), outputName)
	o, err := openOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	o.now = func() time.Time { return time.Unix(7, 0) }
	recount := func(stdout, stderr uint64) {
		t.Helper()
		if err := o.close(); err != nil {
			t.Fatal(err)
		}
		if o, err = openOutput(path); err == nil {
			err = o.count()
		}
		if want := [2]uint64{stdout, stderr}; err != nil || o.offsets != want {
			t.Fatalf("offsets %v, %v, want %v", o.offsets, err, want)
		}
	}
	take := func(stderr bool, text string) {
		if err := o.take(stderr, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	recount(0, 0)
	take(false, "one\ntwo")
	recount(7, 0)
	take(true, "\n\nerr\n")
	recount(7, 6)
	o.gap(false, 100)
	recount(100, 6)
	take(false, "F:9,9 2026\n")
	recount(111, 6)

	// A torn line, and one that only looks like ours, count nothing.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("1970-01-01T00:00:07.000000000Z stdout F:999,9 torn")
	}
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	recount(111, 6)

	// A rotation has just begun a new file.
	if err := os.Rename(path, path+olderSuffix); err != nil {
		t.Fatal(err)
	}
	recount(111, 6)
}

// Output that a full disk refuses is counted too: it was taken.
func TestOutputCountsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), outputName)
	o, err := openOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	o.stamped = true
	file := o.f
	if o.f, err = os.Open(path); err != nil { // It cannot be written to.
		t.Fatal(err)
	}
	if err := o.take(false, []byte("lost\n")); err != nil {
		t.Fatal(err)
	}
	o.f = file
	if err := o.take(false, []byte("kept\n")); err != nil {
		t.Fatal(err)
	}
	if err := o.count(); err != nil || o.offsets != [2]uint64{10, 0} {
		t.Errorf("offsets %v, %v", o.offsets, err)
	}
}

// Without --survive the log is as it always was.
func TestOutputUnstamped(t *testing.T) {
	path := filepath.Join(t.TempDir(), outputName)
	o, err := openOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	o.now = func() time.Time { return time.Unix(7, 0) }
	if err := o.take(true, []byte("x\ny")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	const want = "1970-01-01T00:00:07.000000000Z stderr F x\n1970-01-01T00:00:07.000000000Z stderr P y\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestParseKind(t *testing.T) {
	for kind, want := range map[string]bool{
		"F": true, "P": true, "F:0,0": true, "P:18446744073709551615,7": true,
		"": false, "f": false, "F:": false, "F:1": false, "F:1,": false, "F:01,1": false, "F:+1,1": false, "F:1,1,1": false,
		"F:18446744073709551616,1": false, "X:1,1": false,
	} {
		if _, _, ok := parseKind(kind); ok != want {
			t.Errorf("%q: %t", kind, ok)
		}
	}
}
