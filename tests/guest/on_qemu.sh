#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# on_qemu.sh - the bare-metal guest programs on QEMU's TCG, as a reference to compare with
#
# usage: on_qemu.sh BUILDDIR/tests/guest [NAME...]
#
# Where QEMU 7.2 and the manual disagree the checks follow the manual; qemu_deviations lists those
# ("program: check", one a line), so that a failure which is not listed is news: either a check is
# wrong, or another QEMU behaves differently. SKIPs (TCG has no PCID, x2APIC or TSC deadline) are
# counted but allowed.
set -eu
dir=$1
shift
here=$(dirname "$0")
[ $# -gt 0 ] || set -- exc debug paging paging_matrix paging32 priv apic smp time smc misc boot_mb \
	poweroff reset_acpi reset_i8042 triple
log=$(mktemp)
trap 'rm -f "$log"' EXIT
news=0
for name; do
	cpus=1
	case $name in
	smp) cpus=4 ;;
	smc | time) cpus=2 ;;
	esac
	case $name in
	poweroff | reset_acpi)
		echo "$name: needs Orrery's board, not run"
		continue
		;;
	esac
	status=0
	timeout 100 qemu-system-x86_64 -M q35 -accel tcg -cpu max,vendor=GenuineIntel -smp "$cpus" -m 256 \
		-kernel "$dir/$name.elf" -device isa-debug-exit,iobase=0xf4 -serial stdio \
		-display none -no-reboot >"$log" 2>&1 || status=$?
	passed=$(grep -c '^PASS ' "$log" || true)
	skipped=$(grep -c '^SKIP ' "$log" || true)
	known=0
	unknown=0
	while IFS= read -r line; do
		[ -n "$line" ] || continue # an empty list is one empty line
		check=$(printf '%s\n' "$line" | sed -e 's/^FAIL //' -e 's/: expected [0-9a-f]* got .*//' \
			-e 's/: expected [0-9a-f]*\.\..*//')
		if grep -qxF "$name: $check" "$here/qemu_deviations"; then
			known=$((known + 1))
		else
			unknown=$((unknown + 1))
			echo "$name: $line"
		fi
	done <<-LIST
		$(grep '^FAIL ' "$log" || true)
	LIST
	echo "$name: $passed passed, $skipped skipped, $known known deviations, $unknown others," \
		"status $status"
	[ "$unknown" -eq 0 ] || news=1
	case $name in
	triple | reset_i8042) [ "$status" -eq 0 ] || news=1 ;;
	*) case $status in 1 | 3) ;; *) news=1 ;; esac ;;
	esac
done
exit $news
