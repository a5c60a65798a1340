# SPDX-License-Identifier: Apache-2.0
#
# The front door. `make help` lists what it does.
#
# Plain make and POSIX sh. What it honours from the environment: CARGO,
# CARGO_TARGET_DIR, CARGO_BUILD_TARGET, ERTS_INCLUDE_DIR, REBAR3.

.POSIX:
SHELL = /bin/sh

# An argument for `make test` and `make check`: a part of stages' names.
ONLY =

# An OTP release, for `make test-otp`.
OTP =

# For `make soak`.
SOAK_MINUTES = 20

FUZZ_SECONDS = 20
FUZZ_CALLS = 1000000

# Where `make install` installs: a directory of OTP applications.
PREFIX = /usr/local
ERLANG_LIB_DIR = $(PREFIX)/lib/erlang/lib

all: build

help:
	@echo 'make          build: a loadable application in _build/default/lib/inert'
	@echo 'make demo     install what is missing, build, and show it work'
	@echo 'make test     install what is missing, and run every check and test'
	@echo 'make test-otp OTP=27  the same with another OTP (27 or 29), in a Debian that has it'
	@echo 'make fuzz     fuzz the decoder and the table, a minute; needs cargo-fuzz'
	@echo 'make fuzz-port  a million random calls to a port, on each pollset, a minute'
	@echo 'make sanitize the Rust unit tests under AddressSanitizer and ThreadSanitizer'
	@echo 'make valgrind short suites in a VM under valgrind'
	@echo 'make check    only the checks: format, lints, docs, types, headers'
	@echo 'make shell    an Erlang shell with inert, fdio and the examples loaded'
	@echo 'make docs     the reference as HTML, in _build/docs'
	@echo 'make install  what is built, into PREFIX/lib/erlang/lib (PREFIX=/usr/local, DESTDIR=)'
	@echo 'make uninstall  removes that again'
	@echo 'make deps     only install what is missing (scripts/bootstrap)'
	@echo 'make driver   only the driver: priv/inert_drv.so'
	@echo 'make fdio     only the NIF that examples and tests use for raw fds'
	@echo 'make examples only the examples, and fdio'
	@echo 'make bench    the benchmark, about 10 minutes; writes docs/performance.md'
	@echo 'make bench-quick  a short one, under 2 minutes; writes bench/results'
	@echo 'make soak     property tests and fuzzing for SOAK_MINUTES=20; writes _build/soak-report.md'
	@echo 'make clean    remove everything built'
	@echo
	@echo 'make test ONLY=xref runs only the stages with xref in their name.'

build: need-build
	@REBAR_OFFLINE=1 $${REBAR3:-rebar3} compile

need-build:
	@scripts/bootstrap --check build

deps:
	@scripts/bootstrap test

# What rebar.config's compile hook runs, here and in projects that use inert as
# a dependency.
driver:
	@scripts/build-cdylib inert_drv priv/inert_drv.so

# What h/1,2 print in the Erlang shell and in IEx. The links are for those who look
# no further than the application's directory: here, and where Mix has it.
chunks: doc/chunks/inert.chunk
	@for app in "$$PWD/_build/default/lib/inert" "$${REBAR_BARE_COMPILER_OUTPUT_DIR:-.}"; do \
	    [ ! -d "$$app/ebin" ] || [ -d "$$app/doc" ] || ln -s "$$PWD/doc" "$$app/doc"; \
	done

doc/chunks/inert.chunk: erlang/src/*.erl scripts/docs-erlang
	@scripts/docs-erlang chunks doc erlang/src/*.erl

docs: need-build
	@scripts/docs

# For distributions, and for `sudo make install`: builds nothing.
install:
	@DESTDIR="$(DESTDIR)" scripts/install install "$(ERLANG_LIB_DIR)"

uninstall:
	@DESTDIR="$(DESTDIR)" scripts/install uninstall "$(ERLANG_LIB_DIR)"

# examples/fdio is laid out like an installed application, NIF and all.
fdio: build
	@scripts/build-cdylib fdio examples/fdio/priv/fdio.so
	@scripts/compile-erlang examples/fdio/ebin examples/fdio/src/*.erl
	@cp examples/fdio/src/fdio.app.src examples/fdio/ebin/fdio.app

examples: fdio
	@scripts/compile-erlang _build/examples/examples/ebin examples/*.erl

# The Common Test and EUnit suites, and the tests' own small driver.
suites: examples
	@[ ! -e test/probe_drv/Cargo.toml ] || scripts/build-cdylib probe_drv test/probe_drv/priv/probe_drv.so
	@scripts/compile-erlang _build/suites test/*.erl examples/fdio/test/*.erl
	@for data in test/*_SUITE_data; do \
	    [ ! -d "$$data" ] || ln -sfn "$$PWD/$$data" _build/suites/; \
	done

demo:
	@scripts/bootstrap demo
	@$(MAKE) -s examples
	@scripts/with-libs erl -noinput -run demo main

test:
	@scripts/bootstrap test
	@test/run "$(ONLY)"

test-otp:
	@scripts/test-otp "$(OTP)" "$(ONLY)"

# FUZZ_SECONDS each target; scripts/fuzz can also do one of them.
fuzz:
	@scripts/bootstrap build
	@scripts/fuzz $(FUZZ_SECONDS)

fuzz-port: suites
	@test/fuzz $(FUZZ_CALLS)

sanitize:
	@scripts/bootstrap build
	@scripts/sanitize

valgrind: suites
	@scripts/valgrind

check:
	@scripts/bootstrap test
	@test/run --check "$(ONLY)"

# bench/run can also do a part of it.
bench: fdio
	@bench/run full

bench-quick: fdio
	@bench/run quick

soak:
	@scripts/bootstrap test
	@$(MAKE) -s suites
	@test/soak $(SOAK_MINUTES)

shell: examples
	@scripts/with-libs erl -eval "$$(cat scripts/shell.eval)"

clean: clean-driver
	rm -rf _build examples/fdio/ebin examples/fdio/priv test/probe_drv/priv
	rm -f test/*.beam rebar3.crashdump erl_crash.dump

# A CARGO_TARGET_DIR is its owner's to clean: other projects may share it.
clean-driver:
	rm -rf priv target doc

.PHONY: all help build need-build deps driver chunks docs install uninstall fdio examples suites demo test test-otp fuzz fuzz-port sanitize valgrind check bench \
	bench-quick soak shell clean clean-driver
