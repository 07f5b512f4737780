package wire

import (
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire/frame"
)

func decodePayload(t Type, payload string) (Message, error) {
	return Decode(Envelope{Generation: Newest, Type: t, Payload: []byte(payload)})
}

// float64Of2To32 is 1<<32 as JavaScript sends it.
const float64Of2To32 = "\xfb\x41\xf0\x00\x00\x00\x00\x00\x00"

var (
	plainRequest = &ExecRequest{Cmd: "ls", Rows: 24, Cols: 80}
	plainStdin   = &ExecStdin{Data: []byte("ab")}
)

var payloadForms = map[string]struct {
	payload string
	want    Message
}{
	"one field":           {mapOf("cmd", tstr("ls")), plainRequest},
	"null optionals":      {mapOf("cmd", tstr("ls"), "cwd", null, "user", undefined), plainRequest},
	"empty lists":         {mapOf("args", listOf(), "cmd", tstr("ls"), "env", anyList+stop), plainRequest},
	"unknown fields":      {mapOf("cmd", tstr("ls"), "capture", mapOf("x", stopless), "y", null), plainRequest},
	"integer keys":        {"\xa2\x00\x00" + tstr("cmd") + tstr("ls"), plainRequest},
	"indefinite map":      {anyMap + tstr("cmd") + tstr("ls") + stop, plainRequest},
	"indefinite text":     {mapOf("cmd", anyText+tstr("l")+tstr("s")+stop), plainRequest},
	"longer heads":        {"\xb9\x00\x01\x78\x03cmd\x79\x00\x02ls", plainRequest},
	"keys as bytes":       {"\xa1" + bstr("cmd") + tstr("ls"), plainRequest},
	"trailing bytes":      {mapOf("cmd", tstr("ls")) + "\xff", plainRequest},
	"tag before text":     {"\xc6" + mapOf("cmd", "\xd9\x01\x00"+tstr("ls")), plainRequest},
	"longer integers":     {mapOf("cmd", tstr("ls"), "rows", "\x1b\x00\x00\x00\x00\x00\x00\x00\x18"), plainRequest},
	"a float for rows":    {mapOf("cmd", tstr("ls"), "rows", "\xf9\x4e\x00"), plainRequest},
	"data":                {mapOf("data", bstr("ab")), plainStdin},
	"data in pieces":      {mapOf("data", anyBytes+bstr("a")+bstr("")+bstr("b")+stop), plainStdin},
	"data tagged":         {mapOf("data", "\xd8\x40"+bstr("ab")), plainStdin},
	"data as integers":    {mapOf("data", ints("ab")), plainStdin},
	"data, many integers": {mapOf("data", anyList+"\x18a\x19\x00b"+stop), plainStdin},
	"no data":             {mapOf("data", bstr("")), &ExecStdin{Data: []byte{}}},
	"no data, array":      {mapOf("data", listOf()), &ExecStdin{Data: []byte{}}},
	"all of a request": {
		mapOf("rlimits", listOf(mapOf("hard", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff", "resource", tstr("cpu"), "soft", "\x00")),
			"cols", "\x19\xff\xff", "rows", "\x00", "tty", yes, "user", tstr("u:g"), "cwd", tstr(""),
			"env", listOf(tstr("A=1"), tstr("")), "args", listOf(tstr("-l")), "cmd", tstr("ls")),
		&ExecRequest{
			Cmd: "ls", Args: []string{"-l"}, Env: []string{"A=1", ""}, Cwd: new(""), User: new("u:g"), TTY: true,
			Cols: 65535, Rlimits: []Rlimit{{Resource: "cpu", Hard: 1<<64 - 1}},
		},
	},
	"negative":         {mapOf("signal", "\x3a\x7f\xff\xff\xff"), &ExecSignal{Signal: -1 << 31}},
	"a negative float": {mapOf("signal", "\xfa\xc0\x40\x00\x00"), &ExecSignal{Signal: -3}},
	"read": {
		mapOf("op", mapOf("Read", mapOf("handle", "\x01", "offset", float64Of2To32, "len", undefined))),
		&FSRequest{Op: &OpRead{Handle: 1, Offset: 1 << 32}},
	},
	"an indefinite operation": {
		mapOf("op", anyMap+tstr("List")+mapOf("path", tstr("/"))+stop, "bulk", null),
		&FSRequest{Op: &OpList{Path: "/"}},
	},
	"no result": {mapOf("ok", yes), &FSResponse{OK: true}},
	"address as bytes": {
		mapOf("network", mapOf("interface", tstr("eth0"), "mtu", uintOf(1500), "mac", bstr("123456"),
			"ipv4", mapOf("address", bstr("\x01\x02\x03\x04"), "prefix_len", "\x18\x1e", "gateway", ints("\x01\x02\x03\x05"), "dns", null))),
		&Bootstrap{Network: &Network{
			Interface: "eth0", MTU: 1500, MAC: [6]byte([]byte("123456")),
			IPv4: &IPv4{Address: [4]byte{1, 2, 3, 4}, PrefixLen: 30, Gateway: [4]byte{1, 2, 3, 5}},
		}},
	},
	"kind anywhere": {
		mapOf("block_root", mapOf("upper", mapOf("size_mib", "\x18\x40", "x", null, "kind", tstr("tmpfs")),
			"lower", tstr("/dev/vda"), "kind", tstr("oci-erofs"))),
		&Bootstrap{BlockRoot: &OCIErofs{Lower: "/dev/vda", Upper: &UpperTmpfs{SizeMiB: new(uint32(64))}}},
	},
	"no root":          {mapOf("block_root", null, "security_profile", tstr("restricted")), &Bootstrap{SecurityProfile: ProfileRestricted}},
	"flags incomplete": {mapOf("dir_mounts", listOf(mapOf("tag", tstr("t"), "guest_path", tstr("/t")))), &Bootstrap{DirMounts: []DirMount{{Tag: "t", GuestPath: "/t"}}}},
}

//holds:wire 3: every accepted form is accepted
func TestPayloadForms(t *testing.T) {
	t.Parallel()
	for name, c := range payloadForms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decodePayload(c.want.Type(), c.payload)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

var badPayloads = map[string]struct {
	typ     Type
	payload string
	field   string
	want    error
}{
	"nothing":                {TypePing, "", "", errTruncated},
	"null":                   {TypePing, null, "", errNotMap},
	"undefined":              {TypeInitAck, undefined, "", errNotMap},
	"a list":                 {TypeExecSignal, listOf("\x0f"), "", errNotMap},
	"missing":                {TypeExecSignal, mapOf(), "signal", errMissing},
	"missing below":          {TypeFSRequest, mapOf("op", mapOf("Stat", mapOf("path", tstr("/")))), "op.Stat.follow_symlink", errMissing},
	"null for required":      {TypeExecSignal, mapOf("signal", null), "signal", errNotInteger},
	"a fraction":             {TypeExecSignal, mapOf("signal", "\xf9\x3e\x00"), "signal", errNotInteger},
	"not a number":           {TypeExecSignal, mapOf("signal", "\xf9\x7e\x00"), "signal", errNotInteger},
	"infinity":               {TypeExecSignal, mapOf("signal", "\xfa\x7f\x80\x00\x00"), "signal", errNotInteger},
	"infinity, short":        {TypeExecSignal, mapOf("signal", "\xf9\x7c\x00"), "signal", errNotInteger},
	"float too large":        {TypeClockSync, mapOf("unix_time_nanos", "\xfb\x43\xf0\x00\x00\x00\x00\x00\x00"), "unix_time_nanos", errRange},
	"float too small":        {TypeExecSignal, mapOf("signal", "\xfb\xc3\xf0\x00\x00\x00\x00\x00\x00"), "signal", errRange},
	"a negative float":       {TypeClockSync, mapOf("unix_time_nanos", "\xf9\xbc\x00"), "unix_time_nanos", errRange},
	"a boolean":              {TypeExecSignal, mapOf("signal", yes), "signal", errNotInteger},
	"text for a number":      {TypeExecSignal, mapOf("signal", tstr("9")), "signal", errNotInteger},
	"a big number":           {TypeClockSync, mapOf("unix_time_nanos", "\xc2"+bstr("\x01")), "unix_time_nanos", errNotInteger},
	"rows 70000":             {TypeExecResize, mapOf("rows", "\x1a\x00\x01\x11\x70", "cols", "\x01"), "rows", errRange},
	"rows -1":                {TypeExecResize, mapOf("rows", "\x20", "cols", "\x01"), "rows", errRange},
	"signal above i32":       {TypeExecSignal, mapOf("signal", "\x1a\x80\x00\x00\x00"), "signal", errRange},
	"signal below i32":       {TypeExecSignal, mapOf("signal", "\x3a\x80\x00\x00\x00"), "signal", errRange},
	"signal far below":       {TypeExecSignal, mapOf("signal", "\x3b\xff\xff\xff\xff\xff\xff\xff\xff"), "signal", errRange},
	"time above i64":         {TypeFSRequest, mapOf("op", mapOf("FSetStat", mapOf("handle", "\x01", "attrs", mapOf("atime", "\x1b\x80\x00\x00\x00\x00\x00\x00\x00")))), "op.FSetStat.attrs.atime", errRange},
	"bytes for text":         {TypeExecRequest, mapOf("cmd", bstr("ls")), "cmd", errNotText},
	"null for text":          {TypeExecRequest, mapOf("cmd", null), "cmd", errNotText},
	"not UTF-8":              {TypeExecRequest, mapOf("cmd", tstr("\xff")), "cmd", errUTF8},
	"text too long":          {TypeExecRequest, mapOf("cmd", tstr(strings.Repeat("x", maxText+1))), "cmd", errTextLength},
	"text too long, pieces":  {TypeExecRequest, mapOf("cmd", anyText+strings.Repeat(tstr(strings.Repeat("x", 1<<20)), 4)+stop), "cmd", errTextLength},
	"text for bytes":         {TypeExecStdin, mapOf("data", tstr("ab")), "data", errNotBytes},
	"null for bytes":         {TypeExecStdin, mapOf("data", null), "data", errNotBytes},
	"number for a boolean":   {TypeExecRequest, mapOf("cmd", tstr("ls"), "tty", "\x01"), "tty", errNotBool},
	"null for a boolean":     {TypeExecRequest, mapOf("cmd", tstr("ls"), "tty", null), "tty", errNotBool},
	"null for rows":          {TypeExecRequest, mapOf("cmd", tstr("ls"), "rows", null), "rows", errNotInteger},
	"null for args":          {TypeExecRequest, mapOf("cmd", tstr("ls"), "args", null), "args", errNotList},
	"null for env":           {TypeExecRequest, mapOf("cmd", tstr("ls"), "env", undefined), "env", errNotList},
	"null for rlimits":       {TypeExecRequest, mapOf("cmd", tstr("ls"), "rlimits", null), "rlimits", errNotList},
	"null in args":           {TypeExecRequest, mapOf("cmd", tstr("ls"), "args", listOf(null)), "args", errNotText},
	"bytes for args":         {TypeExecRequest, mapOf("cmd", tstr("ls"), "args", bstr("")), "args", errNotList},
	"a break in args":        {TypeExecRequest, mapOf("cmd", tstr("ls"), "args", "\x81"+stop), "args", errBreak},
	"twice":                  {TypeExecSignal, "\xa2" + tstr("signal") + "\x01" + bstr("signal") + "\x02", "signal", errDuplicate},
	"twice below":            {TypeFSRequest, mapOf("op", mapOf("List", mapOf("path", tstr("/"), "path", tstr("/")))), "op.List.path", errDuplicate},
	"unknown operation":      {TypeFSRequest, mapOf("op", mapOf("Format", mapOf())), "op", errUnknown},
	"operation, other case":  {TypeFSRequest, mapOf("op", mapOf("list", mapOf("path", tstr("/")))), "op", errUnknown},
	"no operation":           {TypeFSRequest, mapOf("op", mapOf()), "op", errNotVariant},
	"two operations":         {TypeFSRequest, mapOf("op", mapOf("FStat", mapOf("handle", "\x01"), "OpenDir", mapOf("path", tstr("/")))), "op", errNotVariant},
	"operation null":         {TypeFSRequest, mapOf("op", null), "op", errNotVariant},
	"operation as text":      {TypeFSRequest, mapOf("op", tstr("List")), "op", errNotVariant},
	"operation without body": {TypeFSRequest, mapOf("op", mapOf("List", null)), "op.List", errNotMap},
	"unknown result":         {TypeFSResponse, mapOf("ok", yes, "data", mapOf("Size", "\x01")), "data", errUnknown},
	"unknown profile":        {TypeBootstrap, mapOf("security_profile", tstr("none")), "security_profile", errUnknown},
	"empty profile":          {TypeBootstrap, mapOf("security_profile", tstr("")), "security_profile", errUnknown},
	"unknown thaw mode":      {TypeWorkloadThaw, mapOf("attempt_id", tstr("a"), "mode", tstr("stop")), "mode", errUnknown},
	"unknown bulk kind":      {TypeBulkFinish, mapOf("kind", "\x03", "flow", "\x01", "final_offset", "\x00"), "kind", errUnknown},
	"unknown bulk flow":      {TypeBulkFinish, mapOf("kind", "\x01", "flow", "\x03", "final_offset", "\x00"), "flow", errUnknown},
	"unknown cancel reason":  {TypeBulkCancel, mapOf("kind", "\x01", "reason", "\x06", "message", tstr("")), "reason", errUnknown},
	"root without kind":      {TypeBootstrap, mapOf("block_root", mapOf("device", tstr("/dev/vda"))), "block_root.kind", errMissing},
	"root of unknown kind":   {TypeBootstrap, mapOf("block_root", mapOf("kind", tstr("nfs"))), "block_root.kind", errUnknown},
	"root of two kinds":      {TypeBootstrap, mapOf("block_root", mapOf("kind", tstr("disk-image"), "kind", tstr("disk-image"))), "block_root.kind", errDuplicate},
	"root without device":    {TypeBootstrap, mapOf("block_root", mapOf("kind", tstr("disk-image"))), "block_root.device", errMissing},
	"root without upper":     {TypeBootstrap, mapOf("block_root", mapOf("kind", tstr("oci-erofs"), "lower", tstr("/x"))), "block_root.upper", errMissing},
	"upper null":             {TypeBootstrap, mapOf("block_root", mapOf("kind", tstr("oci-erofs"), "lower", tstr("/x"), "upper", null)), "block_root.upper", errNotMap},
	"address as text":        {TypeBootstrap, mapOf("network", mapOf("interface", tstr("e"), "mac", tstr("02:00"))), "network.mac", errNotBytes},
	"entropy too short":      {TypeBootstrap, mapOf("fresh", mapOf("entropy", ints("0123"), "unix_time_nanos", "\x01")), "fresh.entropy", errLength},
	"fresh without time":     {TypeBootstrap, mapOf("fresh", mapOf("entropy", ints("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"))), "fresh.unix_time_nanos", errMissing},
	"address too short":      {TypeBootstrap, mapOf("network", mapOf("ipv4", mapOf("address", ints("\x01\x02\x03")))), "network.ipv4.address", errLength},
	"address too long":       {TypeBootstrap, mapOf("network", mapOf("ipv4", mapOf("dns", ints("\x01\x02\x03\x04\x05")))), "network.ipv4.dns", errLength},
	"cut in a head":          {TypeClockSync, mapOf("unix_time_nanos", "\x1b\x00"), "unix_time_nanos", errTruncated},
	"cut in a piece":         {TypeExecStdin, mapOf("data", anyBytes+"\x42a"), "data", errTruncated},
	"cut between pieces":     {TypeExecRequest, mapOf("cmd", anyText+tstr("a")), "cmd", errTruncated},
	"cut in what is skipped": {TypePing, mapOf("x", "\xa1"), "", errTruncated},
	"cut before a boolean":   {TypeExecRequest, "\xa1" + tstr("tty"), "tty", errTruncated},
	"cut before a list":      {TypeExecRequest, "\xa1" + tstr("args"), "args", errTruncated},
	"cut in an operation":    {TypeFSRequest, mapOf("op", "\xa1"), "op", errTruncated},
	"cut before operation":   {TypeFSRequest, "\xa1" + tstr("op"), "op", errTruncated},
	"too deep":               {TypePing, mapOf("x", strings.Repeat("\xa1\x00", maxDepth)+"\x00"), "", errDepth},
	"too many arguments":     {TypeExecRequest, mapOf("args", anyList+strings.Repeat(tstr(""), maxElements+1)+stop), "args", errElements},
	"too many in total": {
		TypeExecRequest, mapOf("args", anyList+strings.Repeat(tstr(""), maxElements)+stop, "env", listOf(tstr(""))),
		"env", errElements,
	},
}

func TestPayloadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range badPayloads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := decodePayload(c.typ, c.payload)
			var typed *PayloadError
			if m != nil || !errors.As(err, &typed) {
				t.Fatalf("got %+v, %v", m, err)
			}
			if typed.Type != c.typ || typed.Field != c.field || !errors.Is(err, c.want) {
				t.Errorf("got %v; want field %q, %v", err, c.field, c.want)
			}
		})
	}
}

func TestDecodeUnknownType(t *testing.T) {
	t.Parallel()
	_, err := decodePayload("core.fancy", mapOf())
	var unknown *UnknownTypeError
	if !errors.As(err, &unknown) || unknown.Type != "core.fancy" {
		t.Errorf("got %v", err)
	}
}

func TestPayloadErrorText(t *testing.T) {
	t.Parallel()
	_, err := decodePayload(TypeExecSignal, mapOf())
	if want := "payload of core.exec.signal: signal: missing"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	_, err = decodePayload("core.fancy", null)
	if want := "unknown message type core.fancy"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	_, err = decodePayload(TypePing, null)
	if want := "payload of core.ping: not a map"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// TestShutdownAlwaysDecodes: nothing in its payload may keep a machine running.
func TestShutdownAlwaysDecodes(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{"", null, mapOf(), "garbage", stop} {
		m, err := decodePayload(TypeShutdown, payload)
		if _, ok := m.(*Shutdown); !ok || err != nil {
			t.Errorf("payload %q: %v, %v", payload, m, err)
		}
	}
}

// TestDecodedOwnsItsMemory overwrites the input after decoding.
func TestDecodedOwnsItsMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload string
		want    Message
	}{
		{mapOf("data", bstr("ab")), &ExecStdin{Data: []byte("ab")}},
		{mapOf("cmd", tstr("ls"), "args", listOf(tstr("-l"))), &ExecRequest{Cmd: "ls", Args: []string{"-l"}, Rows: 24, Cols: 80}},
	} {
		payload := []byte(c.payload)
		m, err := Decode(Envelope{Type: c.want.Type(), Payload: payload})
		must(t, err)
		clear(payload)
		if !reflect.DeepEqual(m, c.want) {
			t.Errorf("became %+v", m)
		}
	}
}

// TestHostileSizes: no frame makes a message that is much larger than it.
func TestHostileSizes(t *testing.T) { // not parallel: it looks at the heap
	const size = 4 << 20
	minimalEntry := mapOf("path", tstr(""), "kind", tstr(""), "size", "\x00", "mode", "\x00", "uid", "\x00", "gid", "\x00")
	for name, c := range map[string]struct {
		typ     Type
		payload string
	}{
		"texts":    {TypeExecRequest, mapOf("cmd", tstr(""), "args", anyList+strings.Repeat(tstr(""), size)+stop)},
		"integers": {TypeExecStdin, mapOf("data", anyList+strings.Repeat("\x00", size)+stop)},
		"pieces":   {TypeExecStdin, mapOf("data", anyBytes+strings.Repeat(bstr(""), size)+stop)},
		"keys":     {TypePing, anyMap + strings.Repeat("\x60\x00", size/2) + stop},
		"rlimits":  {TypeExecRequest, mapOf("rlimits", anyList+strings.Repeat(mapOf("resource", tstr(""), "soft", "\x00", "hard", "\x00"), size/24)+stop)},
		"entries":  {TypeFSResponse, mapOf("ok", yes, "data", mapOf("List", anyList+strings.Repeat(minimalEntry, size/len(minimalEntry))+stop))},
	} {
		payload := []byte(c.payload)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m, err := Decode(Envelope{Type: c.typ, Payload: payload})
		runtime.GC()
		runtime.ReadMemStats(&after)
		kept, used := int64(after.HeapAlloc)-int64(before.HeapAlloc), after.TotalAlloc-before.TotalAlloc
		t.Logf("%s: kept %d KiB, used %d KiB, %v", name, kept>>10, used>>10, err)
		if kept > 4*size || used > 20*size {
			t.Errorf("%s: kept %d KiB, used %d KiB", name, kept>>10, used>>10)
		}
		runtime.KeepAlive(payload)
		runtime.KeepAlive(c.payload)
		runtime.KeepAlive(m)
	}
}

func TestAppendFrameRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		m     Message
		field string
		want  error
	}{
		"not UTF-8":            {&ExecFailed{Message: "\xff"}, "message", errUTF8},
		"not UTF-8 in a list":  {&ExecRequest{Args: []string{"\xff"}}, "args", errUTF8},
		"no operation":         {&FSRequest{}, "op", errMissing},
		"in an operation":      {&FSRequest{Op: &OpSymlink{LinkPath: "\xff"}}, "op.Symlink.link_path", errUTF8},
		"no upper":             {&Bootstrap{BlockRoot: &OCIErofs{}}, "block_root.upper", errMissing},
		"unknown profile":      {&Bootstrap{SecurityProfile: "none"}, "security_profile", errUnknown},
		"no thaw mode":         {&WorkloadThaw{}, "mode", errUnknown},
		"no bulk kind":         {&BulkFinish{Flow: 1}, "kind", errUnknown},
		"the first of several": {&BulkFinish{}, "kind", errUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := AppendFrame([]byte("before"), Newest, 1, c.m)
			var typed *PayloadError
			if !errors.As(err, &typed) || typed.Field != c.field || !errors.Is(err, c.want) || string(got) != "before" {
				t.Errorf("got %q, %v; want field %q, %v", got, err, c.field, c.want)
			}
		})
	}
}

func TestAppendFrameLimit(t *testing.T) {
	t.Parallel()
	prefix := len(appendEnvelopeHead(nil, Newest, TypeFSData)) + maxHead + len(dataKey) + maxHead
	longest := frame.MaxBody - prefix
	got, err := AppendFrame(nil, Newest, 1, &FSData{Data: make([]byte, longest)})
	if err != nil || len(got) != 4+frame.MaxLength {
		t.Errorf("longest: %d bytes, %v", len(got), err)
	}
	got, err = AppendFrame([]byte("before"), Newest, 1, &FSData{Data: make([]byte, longest+1)})
	var tooLong *frame.LengthError
	if !errors.As(err, &tooLong) || tooLong.Length != frame.MaxLength+1 || string(got) != "before" {
		t.Errorf("one more: %d bytes, %v", len(got), err)
	}
}

func TestAppendFrameAppends(t *testing.T) {
	t.Parallel()
	one, err := AppendFrame(nil, Newest, 1, &Pong{})
	must(t, err)
	two, err := AppendFrame(one, Newest, 1, &Pong{})
	must(t, err)
	if string(two) != string(one)+string(one) {
		t.Errorf("got %x", two)
	}
}

func TestValidText(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":              "",
		"ü\x00\uFFFD":   "ü\x00\uFFFD",
		"a\xffb":        "a\uFFFDb",
		"\xe2\x82":      "\uFFFD\uFFFD",
		"\xff\xc3\xbc!": "\uFFFDü!",
	} {
		if got := ValidText(s); got != want {
			t.Errorf("ValidText(%q) = %q, want %q", s, got, want)
		}
	}
}
