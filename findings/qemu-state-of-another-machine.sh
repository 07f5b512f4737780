#!/bin/sh
# Package:   qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3 (Debian 12)
# Expected:  a saved state that is loaded into a machine with another number of processors,
#            or another model, is refused. A device that is missing is: "Unknown savevm
#            section".
# Happens:   QEMU compares neither. A state of one processor of model "max" loads into a
#            machine of two of model "qemu64" without a word: status 0, ready to go on.
#            Whoever keeps states has to keep the arguments with them and compare these.
# Seen:      VM status: paused (prelaunch)
#            2 processors
# Needs:     apt-get, for Debian 12's packages on amd64; no root. Emulation only, and no
#            guest runs: both machines are stopped before their first instruction.
set -eu
version=1:7.2+dfsg-7+deb12u18+b3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir -p debs/partial root
: >status
apt-get -q -y -o Dir::State::status="$dir/status" -o Dir::Cache="$dir" -o Dir::Cache::archives="$dir/debs" -o Debug::NoLocking=1 \
	-o APT::Sandbox::User="$(id -un)" --no-install-recommends --download-only install "qemu-system-x86=$version" >log 2>&1 || {
	tail -n 3 log >&2
	exit 1
}
for deb in debs/*.deb; do dpkg-deb -x "$deb" root; done

# machine ARGUMENT... is QEMU of the packages, with the packages' own libraries.
machine() {
	QEMU_MODULE_DIR=root/usr/lib/x86_64-linux-gnu/qemu root/lib64/ld-linux-x86-64.so.2 \
		--library-path root/lib/x86_64-linux-gnu:root/usr/lib/x86_64-linux-gnu root/usr/bin/qemu-system-x86_64 \
		-L root/usr/share/seabios -L root/usr/share/qemu -M microvm -accel tcg -m 64 -nodefaults -display none -S -monitor stdio "$@"
}

printf 'migrate "exec:cat > state"\nquit\n' | machine -cpu max -smp 1 >saved 2>&1

mkfifo commands
machine -cpu qemu64 -smp 2 -incoming "exec:cat state" <commands >loaded 2>&1 &
exec 3>commands
tries=0
until grep -q 'VM status: paused (prelaunch)' loaded; do
	tries=$((tries + 1))
	[ $tries -lt 200 ] || { echo "changed: the state was not loaded" >&2; cat loaded >&2; exit 1; }
	echo 'info status' >&3 || { echo "changed: QEMU has ended" >&2; cat loaded >&2; exit 1; }
	sleep 0.05 # Between two questions; the monitor has no event for this.
done
printf 'info cpus\nquit\n' >&3
exec 3>&-
wait $! || { echo "changed: status $?" >&2; exit 1; }
grep -o 'VM status: paused (prelaunch)' loaded | tail -n 1
processors=$(grep -c 'CPU #' loaded)
echo "$processors processors"
[ "$processors" = 2 ]
