package machines

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// notStored are the fields of a configuration that a record does not keep, and why.
var notStored = map[string]string{
	"Cache":          "the user's, of the program that starts the machine",
	"Agent":          "what that program finds or has built in",
	"Taps":           "interfaces that the caller has opened",
	"TranslationMiB": "only programs with many machines set it",
	"Socket":         "the machine's own, or Record.Socket",
	"Log":            "a function",
	"PortSocket":     "for hosts that come back to a machine by themselves",
	"Survive":        "Record.Survive",
	"Console":        "a writer",
	"Files":          "a directory of the machine's",
	"hooks":          "of tests",
}

// filled is a value of a type that differs from zero in all that a record can keep.
func filled(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch t.Kind() { //nolint:exhaustive // Others are zero, and so fail.
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Slice:
		v.Set(reflect.Append(v, filled(t.Elem())))
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(filled(t.Key()), filled(t.Elem()))
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		v.Elem().Set(filled(t.Elem()))
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(7, 7).UTC()))
			return v
		}
		for i := range t.NumField() {
			if t.Field(i).IsExported() {
				v.Field(i).Set(filled(t.Field(i).Type))
			}
		}
	}
	return v
}

// again writes a record and reads it.
func again(t *testing.T, r Record) Record {
	t.Helper()
	r.Format = recordFormat
	b, err := json.Marshal(storeRecord(r))
	if err != nil {
		t.Fatal(err)
	}
	var s storedRecord
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	back, err := s.record()
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// Each field of a configuration is kept, or it is written down here why it is not.
func TestConfigSurvives(t *testing.T) {
	known := map[string]bool{}
	for i := range reflect.TypeFor[sandbox.Config]().NumField() {
		f := reflect.TypeFor[sandbox.Config]().Field(i)
		known[f.Name] = true
		if notStored[f.Name] != "" {
			continue
		}
		var c sandbox.Config
		if !f.IsExported() {
			t.Errorf("%s: decide whether a machine's record keeps it", f.Name)
			continue
		}
		want := filled(f.Type)
		reflect.ValueOf(&c).Elem().Field(i).Set(want)
		got := reflect.ValueOf(again(t, Record{Config: c}).Config).Field(i)
		if want.IsZero() || !reflect.DeepEqual(got.Interface(), want.Interface()) {
			t.Errorf("%s: %+v comes back as %+v: let storedConfig keep it, or say in notStored why it does not", f.Name, want, got)
		}
	}
	for name := range notStored {
		if !known[name] {
			t.Errorf("%s: a configuration has no such field", name)
		}
	}
}

// Each field of a record is kept.
func TestRecordSurvives(t *testing.T) {
	for i := range reflect.TypeFor[Record]().NumField() {
		f := reflect.TypeFor[Record]().Field(i)
		if f.Name == "Format" || f.Name == "Config" {
			continue
		}
		var r Record
		want := filled(f.Type)
		reflect.ValueOf(&r).Elem().Field(i).Set(want)
		got := reflect.ValueOf(again(t, r)).Field(i)
		if want.IsZero() || !reflect.DeepEqual(got.Interface(), want.Interface()) {
			t.Errorf("%s: %+v comes back as %+v", f.Name, want, got)
		}
	}
}

// A record of format 1 with every field set, as the first version wrote it, is read and
// written again with the same fields and values.
func TestOldRecord(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "record-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s storedRecord
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	r, err := s.record()
	if err != nil {
		t.Fatal(err)
	}
	var before, after any
	now, err := json.Marshal(storeRecord(r))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(now, &after); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("it is written as %s", now)
	}
}
