package wire

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire/frame"
)

// roundTrips are payloads, written field by field as a reference sender does,
// of what the golden frames do not have.
func roundTrips(t *testing.T) map[string]struct {
	typ     Type
	payload string
} {
	t.Helper()
	connectionID, err := hex.DecodeString("9018e61820187d189e18f3189518c41852186b186618ee189a181b189418d41875")
	must(t, err)
	offer := mapOf("format", "\x01", "max_record_payload", uintOf(262144), "guest_to_host_credit_limit", uintOf(8388608))
	counters := mapOf("control_bytes", "\x01", "control_frames", "\x02", "bulk_bytes", "\x03", "bulk_frames", "\x04")
	flags := mapOf("readonly", no, "noexec", yes, "nosuid", no, "nodev", yes)
	ipv6 := ints("\xfdBms\x00b\x00*\x00\x00\x00\x00\x00\x00\x00\x02")
	env := listOf(mapOf("key", tstr("A"), "value", tstr("")))
	return map[string]struct {
		typ     Type
		payload string
	}{
		"ready with everything": {TypeReady, mapOf(
			"boot_time_ns", "\x01", "init_time_ns", "\x02", "ready_time_ns", "\x03", "agent_version", tstr("1"),
			"bulk_transport", mapOf("profile", tstr("dual-port-v1"), "port", tstr("agent-bulk"), "connection_id", string(connectionID)),
			"relay_lease", mapOf("max_format", "\x01"), "local_transport", mapOf("max_format", "\x01"),
			"workload_transport_barrier_version", "\x02",
		)},
		"client gone, with lease": {TypeClientDisconnected, mapOf("id_start", "\x01", "id_end_exclusive", uintOf(0x01FFFFFF), "incarnation", ints("0123456789abcdef"))},
		"a workload's error": {TypeProtocolError, mapOf("kind", tstr("invalid_session"), "message", tstr("m"),
			"workload_failure", mapOf("attempt_id", tstr("a"), "disposition", tstr("recovery_required")))},
		"a boot's error": {TypeProtocolError, mapOf("kind", tstr("initialization_failed"), "message", tstr("m"), "init_failure", tstr("user_not_found"))},
		"request with everything": {TypeExecRequest, mapOf("cmd", tstr("ls"), "args", listOf(tstr("-l")), "env", listOf(tstr("A=1")), "cwd", tstr("/"),
			"user", tstr("u"), "tty", yes, "rows", "\x01", "cols", "\x02",
			"rlimits", listOf(mapOf("resource", tstr("cpu"), "soft", "\x01", "hard", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff")))},
		"connect with offer": {TypeTCPConnect, mapOf("host", tstr("::1"), "port", "\x18\x50", "bulk", offer)},
		"prepare":            {TypeRootDiskPrepare, mapOf("size_bytes", "\x01")},
		"grow":               {TypeRootDiskGrow, mapOf("size_bytes", "\x01")},
		"state":              {TypeRootDiskState, mapOf("filesystem_bytes", "\x01", "device_bytes", "\x02")},
		"freeze with mounts": {TypeWorkloadFreeze, mapOf("attempt_id", tstr("a"), "host_input", counters, "external_mount_tags", listOf(tstr("t")))},
		"bootstrap, overlay": {TypeBootstrap, mapOf(
			"block_root", mapOf("kind", tstr("oci-erofs"), "lower", tstr("/dev/vda"),
				"upper", mapOf("kind", tstr("device"), "device", tstr("/dev/vdb"), "fstype", tstr("ext4"))),
			"dir_mounts", listOf(mapOf("tag", tstr("w"), "guest_path", tstr("/w"), "flags", flags)),
			"file_mounts", listOf(mapOf("tag", tstr("f"), "filename", tstr("x"), "guest_path", tstr("/x"), "flags", flags)),
			"disk_mounts", listOf(mapOf("id", tstr("d"), "guest_path", tstr("/d"), "fstype", tstr("ext4"), "flags", flags)),
			"tmpfs_mounts", listOf(mapOf("path", tstr("/t"), "size_mib", "\x18\x40", "mode", "\x01", "flags", flags)),
			"hostname", tstr("web-1"), "host_alias", tstr("host.internal"),
			"network", mapOf("interface", tstr("eth0"), "mac", ints("\x02ms\x00*\x02"), "mtu", uintOf(1500),
				"ipv4", mapOf("address", ints("\xac\x10\x00\xaa"), "prefix_len", "\x18\x1e", "gateway", ints("\xac\x10\x00\xa9"), "dns", ints("\xac\x10\x00\xa9")),
				"ipv6", mapOf("address", ipv6, "prefix_len", "\x18\x40", "gateway", ipv6, "dns", ipv6)),
			"rlimits", listOf(mapOf("resource", tstr("nofile"), "soft", "\x01", "hard", "\x02")),
			"user", tstr("1000:1000"), "default_cwd", tstr("/app"), "default_env", env, "security_profile", tstr("restricted"),
			"handoff_init", mapOf("cmd", tstr("auto"), "args", listOf(tstr("-x")), "cwd", tstr("/"), "env", env),
		)},
		"bootstrap, fresh": {TypeBootstrap, mapOf("fresh", mapOf(
			"entropy", ints("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), "unix_time_nanos", "\x01"))},
		"ready, fresh": {TypeReady, mapOf("boot_time_ns", "\x01", "init_time_ns", "\x02", "ready_time_ns", "\x03", "fresh", yes)},
		"bootstrap, overlay in memory": {TypeBootstrap, mapOf("block_root", mapOf("kind", tstr("oci-erofs"), "lower", tstr("/dev/vda"),
			"upper", mapOf("kind", tstr("tmpfs"), "size_mib", uintOf(512))))},
		"bootstrap, disk": {TypeBootstrap, mapOf("block_root", mapOf("kind", tstr("disk-image"), "device", tstr("/dev/vda")),
			"handoff_init", mapOf("cmd", tstr("/sbin/init")))},
	}
}

func TestPayloadRoundTrips(t *testing.T) {
	t.Parallel()
	for name, c := range roundTrips(t) {
		checkPayloadRoundTrip(t, name, c.typ, c.payload)
	}
}

func checkPayloadRoundTrip(t *testing.T, name string, typ Type, payload string) {
	t.Helper()
	m, err := decodePayload(typ, payload)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	got, err := AppendFrame(nil, Newest, 1, m)
	if err != nil || !strings.HasSuffix(string(got), bstr(payload)) {
		t.Errorf("%s: got %x, %v; want a payload of %x", name, got[min(frame.HeaderSize, len(got)):], err, payload)
	}
}

// TestOperationsRoundTrip has every file system operation with every field.
func TestOperationsRoundTrip(t *testing.T) {
	t.Parallel()
	path, handle := []string{"path", tstr("/p")}, []string{"handle", "\x01"}
	attrs := mapOf("mode", "\x01", "uid", "\x02", "gid", "\x03", "size", "\x04", "atime", "\x05", "mtime", "\x20")
	options := mapOf("read", yes, "write", no, "append", yes, "create", no, "truncate", yes, "create_new", no, "mode", null)
	all := map[string]string{
		"RealPath":    mapOf(path...),
		"Stat":        mapOf(append(path, "follow_symlink", no)...),
		"SetStat":     mapOf(append(path, "follow_symlink", yes, "attrs", attrs)...),
		"List":        mapOf(path...),
		"ReadLink":    mapOf(path...),
		"Symlink":     mapOf("target", tstr("t"), "link_path", tstr("l")),
		"Mkdir":       mapOf(append(path, "mode", uintOf(0o755))...),
		"Remove":      mapOf(path...),
		"RemoveDir":   mapOf(append(path, "recursive", yes)...),
		"Copy":        mapOf("src", tstr("s"), "dst", tstr("d")),
		"Rename":      mapOf("src", tstr("s"), "dst", tstr("d")),
		"OpenFile":    mapOf(append(path, "options", options)...),
		"OpenDir":     mapOf(path...),
		"CloseHandle": mapOf(handle...),
		"Read":        mapOf(append(handle, "offset", "\x02", "len", "\x03")...),
		"Write":       mapOf(append(handle, "offset", "\x02", "len", null)...),
		"ReadDir":     mapOf(append(handle, "limit", "\x02")...),
		"FStat":       mapOf(handle...),
		"FSetStat":    mapOf(append(handle, "attrs", attrs)...),
	}
	for name, content := range all {
		checkPayloadRoundTrip(t, name, TypeFSRequest, mapOf("op", mapOf(name, content)))
	}
	if len(all) != len(fsOps) {
		t.Errorf("%d operations of %d", len(all), len(fsOps))
	}
}
