#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build_guest.sh - one bare-metal guest program: assemble it and the runtime, link
#
# usage: build_guest.sh CC LD OBJCOPY OUT.elf NAME.S rt.S guest.ld
set -eu
cc=$1 ld=$2 objcopy=$3 out=$4 prog=$5 rt=$6 script=$7
name=$(basename "$prog" .S)
flags=
assembler=
case $name in
boot_mb) flags=-DMULTIBOOT ;;
esac
# Clang's own assembler does not know "rex.w lcall"; GNU as, which GCC uses, does.
if "$cc" --version | grep -q clang; then
	assembler=-no-integrated-as
fi
# shellcheck disable=SC2086 # empty or one word each
$cc -m64 -Wa,--fatal-warnings $assembler $flags -c "$rt" -o "$out.rt.o"
# shellcheck disable=SC2086 # as above
$cc -m64 -Wa,--fatal-warnings $assembler $flags -c "$prog" -o "$out.prog.o"
"$ld" -m elf_x86_64 -static -nostdlib --build-id=none --no-warn-rwx-segments \
	-z max-page-size=4096 -T "$script" -o "$out" "$out.rt.o" "$out.prog.o"
if [ "$name" = boot_mb ]; then
	# Multiboot 1 loaders take 32-bit ELF files.
	"$objcopy" -I elf64-x86-64 -O elf32-i386 "$out" "$out.32"
	mv "$out.32" "$out"
fi
rm -f "$out.rt.o" "$out.prog.o"
