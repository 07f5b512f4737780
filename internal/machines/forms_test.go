package machines_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// forms compares what a parser makes of each text with what is wanted; "" is
// refused.
func forms[T any](t *testing.T, parse func(string) (T, error), table map[string]string, show func(T) string) {
	t.Helper()
	for in, want := range table {
		got, err := parse(in)
		if (err != nil) != (want == "") || err == nil && show(got) != want {
			t.Errorf("%q: %s, %v; want %q", in, show(got), err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	forms(t, machines.ParseSize, map[string]string{
		"512m": "512", "512M": "512", "2g": "2048", "1048576": "1", "4194304k": "4096", "134217728b": "128", "1t": "1048576",
		"1gb": "1024", "1GiB": "1024", "1.5g": "1536", "2 GB": "2048", "1m ": "1",
		"": "", "m": "", "0m": "", "-1m": "", "512": "", "1e9": "", "0x100000": "", "1_000m": "", "1i": "", "inf": "", "nan": "", "1mg": "", "512x": "", "99999999999999999999g": "", "9999999999999t": "", "1000": "",
	}, strconv.Itoa)
}

func TestParseMount(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	forms(t, machines.ParseMount, map[string]string{
		"/src:/work": "/src /work - -", "/src:/work:ro": "/src /work ro -", "/src:/work:rw": "/src /work - -",
		"/src:/work:suid": "/src /work - suid", "/src:/work:ro,suid": "/src /work ro suid", ".:/work": wd + " /work - -",
		"/src": "", "/src:work": "", ":/work": "", "/a:/b:ro:x": "", "/a:/b:z": "/a /b - -", "/a:/b:ro,Z": "/a /b ro -", "/a:/b:ro,rw": "", "/a:/b:ro=1": "", "/a:/b:shared": "",
	}, func(m sandbox.Mount) string {
		return m.Source + " " + m.Target + " " + orDash(m.ReadOnly, "ro") + " " + orDash(m.SetID, "suid")
	})
}

func orDash(is bool, word string) string {
	if is {
		return word
	}
	return "-"
}

func TestParseTmpfs(t *testing.T) {
	forms(t, machines.ParseTmpfs, map[string]string{
		"/tmp":                              "{Target:/tmp SizeMiB:0 Mode:0 ReadOnly:false NoExec:false NoSuid:false NoDev:false}",
		"/tmp:size=64m,mode=1777,ro,noexec": "{Target:/tmp SizeMiB:64 Mode:1023 ReadOnly:true NoExec:true NoSuid:false NoDev:false}",
		"/tmp:rw,nosuid,nodev":              "{Target:/tmp SizeMiB:0 Mode:0 ReadOnly:false NoExec:false NoSuid:true NoDev:true}",
		"tmp":                               "", "/tmp:size=x": "", "/tmp:mode=9": "", "/tmp:huge": "",
	}, func(m sandbox.Tmpfs) string { return fmt.Sprintf("%+v", m) })
}

func TestParseDisk(t *testing.T) {
	forms(t, machines.ParseDisk, map[string]string{
		"/d.img": "{/d.img  false   }", "/d.img:/data": "{/d.img  false  /data }",
		"/d.img:ro": "{/d.img  true   }", "/d.q:/data:ro,format=qcow2,fstype=ext4,serial=s": "{/d.q s true qcow2 /data ext4}",
		"": "", "/d.img:/data:bad": "", "/d:/e:ro:x": "",
	}, func(d sandbox.Disk) string { return fmt.Sprint(d) })
}

func TestParseLimit(t *testing.T) {
	most := uint64(math.MaxUint64)
	forms(t, machines.ParseLimit, map[string]string{
		"nofile=10": "{nofile 10 10}", "nofile=10:20": "{nofile 10 20}", "core=-1": fmt.Sprintf("{core %d %d}", most, most),
		"core=0:unlimited": fmt.Sprintf("{core 0 %d}", most), "nofile": "", "=1": "", "nofile=a": "", "nofile=1:b": "", "NPROC=1": "{nproc 1 1}", "foo=3": "", "nofile=2:1": "", "nofile=-1:1": "",
	}, func(l client.Limit) string { return fmt.Sprint(l) })
}

func TestParsePort(t *testing.T) {
	forms(t, machines.ParsePorts, map[string]string{
		"80": "127.0.0.1:0 -> 127.0.0.1:80", "8080:80": "127.0.0.1:8080 -> 127.0.0.1:80", "8080:80/tcp": "127.0.0.1:8080 -> 127.0.0.1:80",
		"0.0.0.0:8080:80": "0.0.0.0:8080 -> 127.0.0.1:80", "[::1]:8080:80": "[::1]:8080 -> 127.0.0.1:80",
		"127.0.0.1::80": "127.0.0.1:0 -> 127.0.0.1:80", "": "", "x": "", "80:x": "", "8080:0": "", "99999:80": "", "8080:80/udp": "127.0.0.1:8080 -> 127.0.0.1:80/udp", "53-54/udp": "127.0.0.1:0 -> 127.0.0.1:53/udp, 127.0.0.1:0 -> 127.0.0.1:54/udp", "80/": "", "80/udp/tcp": "", "host:8080:80": "",
		"8000-8001:80-81": "127.0.0.1:8000 -> 127.0.0.1:80, 127.0.0.1:8001 -> 127.0.0.1:81", "80-81": "127.0.0.1:0 -> 127.0.0.1:80, 127.0.0.1:0 -> 127.0.0.1:81",
		"0.0.0.0:8000-8000:80-80/tcp": "0.0.0.0:8000 -> 127.0.0.1:80", "8000-8002:80-81": "", "8000-8001:80": "", "8001-8000:80-81": "", "0-1:80-81": "",
		"65535-65536:80-81": "", "8000-:80": "", "0:80": "127.0.0.1:0 -> 127.0.0.1:80", ":80": "127.0.0.1:0 -> 127.0.0.1:80", "8080-8081:80-81/sctp": "",
	}, func(all []machines.Port) string {
		var s []string
		for _, p := range all {
			s = append(s, p.String())
		}
		return strings.Join(s, ", ")
	})
}

func TestEnvironment(t *testing.T) {
	t.Setenv("FROM_HERE", "here")
	got, err := machines.Environment([]string{"A=1", "FROM_HERE", "NOT_SET_HERE", "B=", "C=x=y"})
	if want := []string{"A=1", "FROM_HERE=here", "B=", "C=x=y"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := machines.Environment([]string{"=x"}); err == nil {
		t.Error("an entry without a key passes")
	}
}

func TestEnvironmentFile(t *testing.T) {
	file, long := filepath.Join(t.TempDir(), "env"), strings.Repeat("x", 100_000)
	for in, want := range map[string]string{
		"# a comment\n\n A=1\nB=x # y\nC\n":      "A=1|B=x # y|C",
		"\ufeffA=1\r\nB=\"q\"\r\n":               `A=1|B="q"`,
		"export A=1\n\texport  B\nexport=2":      "A=1|B|export=2",
		"A=" + long + "\nB=2":                    "A=" + long + "|B=2",
		"A=1\n\n=2\n":                            "!:3: \"=2\": want KEY=VALUE",
		"A B=1":                                  "!:1: \"A B=1\": there are blanks in the key",
		"A=\xff":                                 "!:1: \"A=\\xff\": it is not UTF-8",
		"A=1\nB=" + long + long:                  "!:2: ",
		"A=1\nB=2\n#" + strings.Repeat(long, 11): "!:3: ",
		"A=\x00":                                 "!NUL byte",
		"export":                                 "export", // A name like any other.
	} {
		if err := os.WriteFile(file, []byte(in), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := machines.EnvironmentFile(file)
		if part, fails := strings.CutPrefix(want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), file) {
				t.Errorf("%.40q: %.80q, %v; want an error with %q", in, got, err, part)
			}
		} else if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%.40q: %.80q, %v; want %.80q", in, got, err, want)
		}
	}
	if _, err := machines.EnvironmentFile(file + "/none"); err == nil || !strings.Contains(err.Error(), "--env-file") {
		t.Errorf("a file that is not there: %v", err)
	}
}
