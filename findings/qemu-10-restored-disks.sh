#!/bin/sh
# Package:   qemu-system-x86 1:10.0.13+ds-0+deb13u1 (Debian 13), beside
#            qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3 (Debian 12)
# Expected:  after a saved state is loaded, the machine is paused and its disks can be
#            worked on by QMP before it goes on, as the status "paused" says and as QEMU 7.2
#            did it: block_resize tells the guest a disk's true size before it runs.
# Happens:   QEMU 10 loads the state, says "paused", and leaves the disks inactive until
#            "cont": block_resize is refused. blockdev-set-active, which 10.0 brought,
#            activates them; older versions answer it with CommandNotFound.
# Seen:      10.0: Permission 'resize' unavailable on inactive node
#            10.0 after blockdev-set-active: resized
#            7.2: resized
# Needs:     apt-get, for Debian's packages on amd64; no root. Emulation only, and no guest
#            runs. DEBIAN_MIRROR says where the packages are.
set -eu
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# fetch SUITE VERSION unpacks QEMU of a suite, with all that it depends on, into SUITE.
fetch() {
	mkdir -p "$1" "state-$1/lists/partial" "cache-$1/archives/partial"
	: >"status-$1"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" >"sources-$1"
	for words in update "install --download-only qemu-system-x86=$2"; do
		# shellcheck disable=SC2086 # Words.
		apt-get -q -y -o Dir::State="$dir/state-$1" -o Dir::State::status="$dir/status-$1" -o Dir::Cache="$dir/cache-$1" \
			-o Dir::Etc::SourceList="$dir/sources-$1" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
			-o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false -o Acquire::Languages=none $words >log 2>&1 || {
			tail -n 3 log >&2
			exit 1
		}
	done
	mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib" "$1/usr/lib64"
	for name in bin sbin lib lib64; do ln -s "usr/$name" "$1/$name"; done
	for deb in "cache-$1"/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -C "$1" -xf - --keep-directory-symlink --no-same-owner
	done
}

# machine SUITE ARGUMENT... is QEMU of a suite, with the packages' own libraries.
machine() {
	suite=$1
	shift
	QEMU_MODULE_DIR=$suite/usr/lib/x86_64-linux-gnu/qemu "$suite/lib64/ld-linux-x86-64.so.2" \
		--library-path "$suite/lib/x86_64-linux-gnu:$suite/usr/lib/x86_64-linux-gnu" "$suite/usr/bin/qemu-system-x86_64" \
		-L "$suite/usr/share/seabios" -L "$suite/usr/share/qemu" -M microvm -accel tcg -m 64 -nodefaults -display none -S -qmp stdio \
		-blockdev driver=file,node-name=disk,filename=disk -device virtio-blk-device,drive=disk "$@"
}

# say COMMAND... sends commands to the machine that loads a state, and then the end.
say() {
	printf '{"execute":"qmp_capabilities"}\n' >&3
	until grep -q '"completed"' answers || ! kill -0 "$pid" 2>/dev/null; do
		printf '{"execute":"query-migrate"}\n' >&3
		sleep 0.05 # Between two questions.
	done
	for command in "$@" '{"execute":"quit"}'; do echo "$command" >&3; done
}

# resized SUITE COMMAND... saves a machine, loads it into another one, and prints how its
# disk is resized after the commands.
resized() {
	suite=$1
	shift
	truncate -s 1M disk
	printf '%s\n' '{"execute":"qmp_capabilities"}' '{"execute":"migrate","arguments":{"uri":"exec:cat > state"}}' >before
	mkfifo commands
	machine "$suite" <commands >answers 2>log &
	pid=$!
	exec 3>commands
	cat before >&3
	say
	exec 3>&-
	wait "$pid" || { cat log >&2; exit 1; }
	: >answers
	machine "$suite" -incoming 'exec:cat state' <commands >answers 2>log &
	pid=$!
	exec 3>commands
	truncate -s 2M disk
	say "$@" '{"execute":"block_resize","id":"resize","arguments":{"node-name":"disk","size":2097152}}'
	exec 3>&-
	wait "$pid" || { cat log >&2; exit 1; }
	rm commands
	grep '"id": "resize"' answers | sed 's/.*"desc": "\([^"]*\)".*/\1/; s/.*"return".*/resized/'
}

fetch trixie 1:10.0.13+ds-0+deb13u1
fetch bookworm 1:7.2+dfsg-7+deb12u18+b3
plain=$(resized trixie)
active=$(resized trixie '{"execute":"blockdev-set-active","arguments":{"active":true}}')
old=$(resized bookworm)
echo "10.0: $plain"
echo "10.0 after blockdev-set-active: $active"
echo "7.2: $old"
[ "$plain" = "Permission 'resize' unavailable on inactive node" ] && [ "$active" = resized ] && [ "$old" = resized ] || {
	echo "changed" >&2
	exit 1
}
