# SPDX-License-Identifier: Apache-2.0
# Makefile - one command for each thing one does with Orrery; the build itself is meson's
#
#   make            build (tells what is missing, installs nothing)
#   make deps       install the Debian packages that building and testing need
#   make demo       a real Linux on the built-in CPU, twice, to the same digest
#   make test       every test; closes with "N passed, N failed, N skipped"
#   make test-kvm   all of the KVM engine's tests with whole kernels, in an emulated host
#   make bench      Orrery beside QEMU, as ratios
#   make lint       layers, headers, formatting, scripts, manual
#   make format     clang-format on all C files
#   make fuzz       each fuzzer for SECONDS=60, then ten million CPU sequences
#   make install    into DESTDIR/PREFIX
#   make clean
#
# demo and test work as the first command on a fresh machine. Variables:
#   SANITIZE=address,undefined   build with these sanitizers, in a directory of its own
#   WERROR=1                     warnings are errors (as in CI)
#   PREFIX=/usr/local DESTDIR=   for install
#   SECONDS=60 for each fuzzer; SEQUENCES=10000000 FUZZ_SECONDS=3600 SEED= INDEX=0 for the CPU

comma := ,
PREFIX ?= /usr/local
SECONDS ?= 60
SEQUENCES ?= 10000000
FUZZ_SECONDS ?= 3600
SEED ?=
INDEX ?= 0
RUNS ?= 5
BUILD := build$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))
CONFIGURE := --prefix=$(PREFIX) $(if $(WERROR),-Dwerror=true) \
	$(if $(SANITIZE),-Db_sanitize=$(SANITIZE) -Db_lundef=false)

all: check-deps
	@scripts/build $(BUILD) $(CONFIGURE)

check-deps:
	@scripts/deps --check build

deps:
	@scripts/deps build test

demo:
	@scripts/deps build
	@scripts/build $(BUILD) $(CONFIGURE)
	@scripts/demo $(BUILD)

test:
	@scripts/deps build test
	@scripts/build $(BUILD) $(CONFIGURE)
	@scripts/test $(BUILD)

test-kvm:
	@scripts/deps build test
	@scripts/build $(BUILD) $(CONFIGURE)
	@scripts/test $(BUILD) --suite nested --suite nested-long

bench:
	@scripts/deps build bench
	@scripts/build $(BUILD) $(CONFIGURE)
	@bench/all $(BUILD) $(RUNS)

lint:
	@scripts/deps build test lint
	@scripts/build $(BUILD) $(CONFIGURE)
	@scripts/lint $(BUILD)

format:
	@scripts/deps lint
	@git ls-files -z '*.[ch]' | xargs -0 clang-format-14 -i

fuzz:
	@scripts/deps build test fuzz
	@scripts/build $(BUILD) $(CONFIGURE)
	@scripts/fuzz $(BUILD) $(SECONDS) $(SEQUENCES) $(FUZZ_SECONDS) $(INDEX) $(SEED)

install: check-deps
	@scripts/build $(BUILD) $(CONFIGURE)
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --tags runtime,man

clean:
	rm -rf build build-*

.PHONY: all check-deps deps demo test test-kvm bench lint format fuzz install clean
