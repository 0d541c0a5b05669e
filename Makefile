# holdfast: build, test, install.  `make help` lists the targets.

CC       ?= cc
AR       ?= ar
CFLAGS   ?= -O2 -g
WERROR   ?= -Werror
PREFIX   ?= /usr/local
DESTDIR  ?=
BUILD    ?= build
VERSION  := 0.1.0

# Where the library goes; packages override it with a multi-arch path.
LIBDIR   ?= $(PREFIX)/lib
BINDIR   ?= $(PREFIX)/bin
MANDIR   ?= $(PREFIX)/share/man
DOCDIR   ?= $(PREFIX)/share/doc/holdfast
BASHDIR  ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR   ?= $(PREFIX)/share/zsh/site-functions

WARN     := -Wall -Wextra -Wconversion -Wshadow $(WERROR)
CPPFLAGS += -D_GNU_SOURCE -DHF_VERSION='"$(VERSION)"' -DHF_LIBDIR='"$(LIBDIR)"' -Iinclude -Ishim
CSTD     := -std=gnu11
SAN      ?=
# Paths in debug information and __FILE__ do not depend on where the sources lie: the same bits everywhere.
ALLFLAGS  = $(CPPFLAGS) $(CSTD) $(WARN) $(CFLAGS) -ffile-prefix-map=$(CURDIR)=. $(SAN) -MMD -MP

# The tool reads what others wrote.  glibc's checks want an optimiser, and ASan brings its own.
TOOLFLAGS := -fPIE -fstack-protector-strong $(if $(SAN),,$(if $(filter -O1 -O2 -O3 -Os,$(CFLAGS)), \
	     -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
# The screen of "holdfast top", with characters beyond ASCII.
CURSES    := -lncursesw
TOOLLINK  := -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack

# The library: position independent, nothing visible but the exported names, thread-local storage that needs no
# allocation, and no stack protector or fortify calls that would lead back into interposed names.
SHIMFLAGS := -fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-plt -U_FORTIFY_SOURCE
# initfirst: our constructor before those of others.  nodelete: dlclose must not pull hooks away.
SHIMLINK  := -shared -Wl,-z,initfirst -Wl,-z,nodelete -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack \
	     -Wl,-z,defs -Wl,--version-script=$(BUILD)/exports.map -Wl,--exclude-libs,ALL
# libbsd by archive: it exports closefrom, setproctitle and others that must not enter every process.
BSD_A     := -Wl,-Bstatic -lbsd -lmd -Wl,-Bdynamic

SHIM_SRC  := $(sort $(wildcard shim/*.c shim/core/*.c shim/state/*.c shim/watch/*.c shim/io/*.c shim/preload/*.c))
# What only makes sense inside a preloaded library; everything else is linked into unit tests too.
PRELOAD_SRC := $(sort $(wildcard shim/io/*.c shim/preload/*.c shim/watch/*.c))
PURE_SRC  := $(filter-out $(PRELOAD_SRC),$(SHIM_SRC))
# The library of tests/torture, in a directory of its own: its system calls can be made to fail.
ifneq ($(TORTURE),)
SHIM_SRC  += tests/torture/inject.c
SHIMFLAGS += -DHF_TORTURE='"../tests/torture/inject.h"' -fno-optimize-sibling-calls
endif
TOOL_SRC  := $(sort $(wildcard tools/*.c))
SHIM_OBJ  := $(SHIM_SRC:%.c=$(BUILD)/pic/%.o)
PURE_OBJ  := $(PURE_SRC:%.c=$(BUILD)/obj/%.o)
TOOL_OBJ  := $(TOOL_SRC:%.c=$(BUILD)/obj/%.o)

UNIT      := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(sort $(wildcard tests/unit/test_*.c)))
MODEL     := $(patsubst tests/model/%.c,$(BUILD)/tests/model/%,$(sort $(wildcard tests/model/test_*.c)))
# Plain C programs, written the way old programs are: no library of ours, no cmocka.
LEGACY    := $(patsubst tests/legacy/%.c,$(BUILD)/tests/legacy/%,$(sort $(wildcard tests/legacy/*.c)))
LAB       := $(patsubst tests/lab/%.c,$(BUILD)/tests/lab/%,$(sort $(wildcard tests/lab/*.c)))
# The differential suite: two processes, each with the library or without.
DIFF      := $(patsubst tests/diff/%.c,$(BUILD)/tests/diff/%,$(sort $(wildcard tests/diff/*.c)))
# For the tests of the tool.
TORTURED  := $(patsubst tests/torture/%.c,$(BUILD)/tests/torture/%,tests/torture/work.c tests/torture/drive.c)
WRITER    := $(patsubst tests/tools/%.c,$(BUILD)/tests/tools/%,$(sort $(wildcard tests/tools/*.c)))
BENCH     := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(sort $(wildcard tests/bench/*.c)))

# A tool that make deps does not install: $(call need,TOOL[,PACKAGES]).
need = command -v $(1) >/dev/null || { echo "make: $(1) is missing (Debian: apt-get install $(or $(2),$(1)))" >&2; exit 1; }

all: $(BUILD)/libholdfast.so $(BUILD)/holdfast ## build the library and the tool (the default)

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) $(SHIMFLAGS) -c $< -o $@

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) $(TOOLFLAGS) -c $< -o $@

# Version script and list of exports, both from the one list of interposed names.
$(BUILD)/exports.list: shim/preload/exports.map.in shim/preload/names.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -E -P -x c $< | grep -o 'HF_EXPORTED [A-Za-z0-9_]*' | cut -d' ' -f2 | LC_ALL=C sort >$@.tmp
	@test -s $@.tmp && mv $@.tmp $@

$(BUILD)/exports.map: $(BUILD)/exports.list
	(echo '{'; echo 'global:'; sed 's/$$/;/' $<; echo 'local: *;'; echo '};') >$@

$(BUILD)/libholdfast.so: $(SHIM_OBJ) $(BUILD)/exports.map
	$(CC) $(CFLAGS) $(SAN) $(SHIMLINK) -o $@ $(SHIM_OBJ) $(BSD_A) -lpthread

$(BUILD)/libpure.a: $(PURE_OBJ)
	rm -f $@
	$(AR) rcs $@ $(PURE_OBJ)

# The tool without its main(), for unit tests.
$(BUILD)/libcommand.a: $(filter-out $(BUILD)/obj/tools/holdfast.o,$(TOOL_OBJ))
	rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/holdfast: $(TOOL_OBJ) $(BUILD)/libpure.a
	$(CC) $(CFLAGS) $(SAN) $(TOOLLINK) -o $@ $(TOOL_OBJ) $(BUILD)/libpure.a $(BSD_A) $(CURSES)

$(BUILD)/tests/unit/test_elf $(BUILD)/tests/unit/test_event_line: $(BUILD)/libcommand.a
$(BUILD)/tests/unit/test_turn: $(BUILD)/obj/shim/io/turn.o
$(BUILD)/tests/unit/%: tests/unit/%.c $(BUILD)/libpure.a
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -Itools -o $@ $< $(filter %/libcommand.a %/turn.o,$^) $(BUILD)/libpure.a $(BSD_A) -lcmocka -lpthread

$(BUILD)/tests/model/%: tests/model/%.c $(BUILD)/libpure.a
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -o $@ $< $(BUILD)/libpure.a $(BSD_A) -lpthread

$(BUILD)/tests/diff/%: tests/diff/%.c
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -o $@ $< -lcmocka -lpthread

$(BUILD)/tests/%: tests/%.c
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -o $@ $< -lpthread -lrt

deps: ## install the Debian packages that are missing (asks for root only then)
	@sh tools/deps.sh

programs: all torture-programs $(UNIT) $(MODEL) $(LEGACY) $(LAB) $(DIFF) $(WRITER) $(BENCH)

# The same unit and model tests once more under AddressSanitizer and UBSan, and what threads share under TSan.
asan-programs: $(UNIT) $(MODEL)
tsan-programs: $(BUILD)/tests/unit/test_fdmap $(BUILD)/tests/unit/test_slot $(BUILD)/tests/unit/test_sink \
	       $(BUILD)/tests/unit/test_sink_given $(BUILD)/tests/unit/test_arena $(BUILD)/tests/unit/test_hold \
	       $(BUILD)/tests/unit/test_turn
sanitized:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan CFLAGS='-O2 -g -fno-omit-frame-pointer' \
		SAN='-fsanitize=address,undefined -fno-sanitize-recover=all' asan-programs
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan CFLAGS='-O1 -g' SAN=-fsanitize=thread tsan-programs
	@$(MAKE) --no-print-directory fuzz-corpus

test: deps ## run all tests
	@$(MAKE) --no-print-directory programs sanitized
	@tests/run

check-%: ## run one suite: check-unit, check-model, -legacy, -tools, -diff, -real, -compat, -lab, -security, -wrap, -outages, -bench, -fuzz, -torture (-suites: see below)
	@$(MAKE) --no-print-directory programs
	@tests/run $*

check-faults: ## the lab's faults once more, with those that take long (five minutes; SEED)
	@$(MAKE) --no-print-directory programs
	@HF_TEST_LIMIT=600 tests/run faults

torture-programs: $(TORTURED)
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/torture TORTURE=1 $(BUILD)/torture/libholdfast.so

torture: torture-programs ## make every system call of the library fail in turn (an hour; TORTURE_RUNS=N: a sample)
	@BUILD=$(abspath $(BUILD)) HF_TORTURE_RUNS=$${TORTURE_RUNS:-0} tests/torture/torture.test

# Debian's packages and sources of them are downloaded into $(BUILD)/suites (or HF_SUITES_DIR); nothing is installed.
check-suites: all ## run whole test suites of others (CPython, libuv, perl, node) with and without the library (20 minutes)
	@HF_SUITES_ALL=1 HF_TEST_LIMIT=1500 tests/run suites

compat-roots: all ## run old-style programs in Debian 11 and 13, an older and a newer glibc (needs root and debootstrap; ten minutes)
	@BUILD=$(abspath $(BUILD)) tests/compat/roots.sh

SOAK_OUTAGES ?= 1000
soak: ## 1,000 outages in a row, outages of 40 s (ten minutes; SEED, SOAK_OUTAGES)
	@$(MAKE) --no-print-directory programs
	COUNT=$(SOAK_OUTAGES) tests/outages/outages.test
	LONG=1 tests/wrap/resume.test

crowd: programs ## 10,000 connections of mixed habits and random faults, every byte checked (five minutes; SEED, CROWD, CROWD_SECONDS)
	tests/lab/crowd

# The deterministic ones, then the stress: four modes, a minute each.
check-races: ## threads and descriptors that change hands, for minutes (SEED, RACES_SECONDS, FORKS=1)
	@$(MAKE) --no-print-directory programs sanitized
	tests/wrap/slow-close.test
	tests/wrap/held.test
	@tests/run tsan
	SECONDS_EACH=$${RACES_SECONDS:-60} tests/wrap/descriptors.test

matrix: programs ## every fault, mode and style of program in the lab: a table into README.md and a picture (4 minutes)
	MATRIX_README=README.md tests/lab/matrix
	cp $(BUILD)/matrix/matrix.svg tools/picture/

bench: ## measure what the library costs, against native (HF_BENCH_QUICK=1: a first look)
	@sh tools/deps.sh build
	@$(MAKE) --no-print-directory all $(BENCH)
	@BUILD=$(BUILD) tests/bench/run

bench-readme: bench ## the same, and its table and picture into README.md
	tests/bench/picture tests/bench/results/$$(uname -m)-$$(nproc)cpu-$$(uname -r).md README.md

bench-instead: ## the same, and detection, beside what is used in its place: libkeepalive, heartbeats, socat, haproxy, ssh -L
	@sh tools/deps.sh build
	@$(MAKE) --no-print-directory all $(BENCH) $(BUILD)/tests/lab/waiter $(BUILD)/tests/lab/peer
	@BUILD=$(BUILD) tests/bench/instead

bench-scale: ## measure the cost of watching 100 to 100,000 idle connections, and 10,000 deaths at once (four minutes)
	@sh tools/deps.sh build
	@$(MAKE) --no-print-directory all $(BENCH)
	@BUILD=$(BUILD) tests/bench/scale

# The fuzz targets, tests/fuzz/fuzz_*.c, each with an LLVMFuzzerTestOneInput().  In build directories of their own, for
# the library's system calls go by tests/fuzz/guard.c there: fuzz-programs wants FUZZING=1.  FUZZ_MAIN is what calls the
# target: tests/fuzz/corpus_main.c with files, or, by FUZZ_LINK, a fuzzer.
ifneq ($(FUZZING),)
CPPFLAGS     += -DHF_TORTURE='"../tests/fuzz/calls.h"' -Itools -Itests/fuzz
endif
FUZZ         := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_MAIN    ?= tests/fuzz/corpus_main.c
FUZZ_LINK    ?=
# All of the library but what makes it one, and the watchdog's thread: for fuzz_wrap.  The others are of pure parts.
FUZZED_SRC   := $(filter-out shim/preload/boot.c shim/preload/exports.c shim/preload/special.c shim/watch/watch.c \
		shim/watch/thread.c shim/watch/thread_proc.c,$(PRELOAD_SRC)) tests/fuzz/guard_real.c tests/fuzz/no_watchdog.c
$(BUILD)/libfuzzed.a: $(FUZZED_SRC:%.c=$(BUILD)/obj/%.o)
	rm -f $@
	$(AR) rcs $@ $^

FUZZED        = $(BUILD)/obj/tests/fuzz/guard.o $(BUILD)/libcommand.a $(BUILD)/libpure.a
$(BUILD)/tests/fuzz/fuzz_wrap: $(BUILD)/libfuzzed.a
$(BUILD)/tests/fuzz/fuzz_wrap: FUZZED = $(BUILD)/obj/tests/fuzz/guard.o $(BUILD)/libfuzzed.a $(BUILD)/libpure.a
$(FUZZ:%=$(BUILD)/tests/fuzz/%): $(BUILD)/tests/fuzz/%: tests/fuzz/%.c $(FUZZ_MAIN) $(BUILD)/obj/tests/fuzz/guard.o $(BUILD)/libcommand.a $(BUILD)/libpure.a
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -c -o $@.o $<
	$(CC) $(ALLFLAGS) $(FUZZ_LINK) -o $@ $@.o $(FUZZ_MAIN) -Wl,--start-group $(FUZZED) -Wl,--end-group $(BSD_A) $(CURSES) -lpthread

fuzz-programs: $(FUZZ:%=$(BUILD)/tests/fuzz/%)

# What other processes may write to holds no true and false only; that is not for UBSan to say.
FUZZ_SAN     := -fsanitize=address,undefined -fno-sanitize=bool -fno-sanitize-recover=undefined
# For make test: once over the corpus.
fuzz-corpus:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz/once FUZZING=1 CFLAGS='-O1 -g -fno-omit-frame-pointer' \
		SAN='$(FUZZ_SAN)' fuzz-programs

check-fuzz: fuzz-corpus
	@tests/run fuzz

# Each target runs on its corpus and then on what libFuzzer makes of it, for FUZZ_SECONDS.  What it finds new stays in
# $(BUILD)/fuzz/found.  FUZZ_CC must be a clang with libFuzzer (Debian: clang and libclang-rt-14-dev).
FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(FUZZ)
fuzz: ## fuzz what reads what others wrote, by libFuzzer, FUZZ_SECONDS (60) each (FUZZ_TARGETS: some of them)
	@mkdir -p $(BUILD)/fuzz
	@echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n){return !d && n;}' | \
		$(FUZZ_CC) -fsanitize=fuzzer -x c - -o $(BUILD)/fuzz/probe 2>/dev/null || { \
		echo 'fuzz: $(FUZZ_CC) with libFuzzer is missing (Debian: apt-get install clang libclang-rt-14-dev)' >&2; exit 1; }
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz/lib FUZZING=1 CC=$(FUZZ_CC) WERROR= FUZZ_MAIN= \
		CFLAGS='-O1 -g -fno-omit-frame-pointer' SAN='-fsanitize=fuzzer-no-link $(FUZZ_SAN)' \
		FUZZ_LINK=-fsanitize=fuzzer fuzz-programs
	@set -e; for name in $(FUZZ_TARGETS); do \
		mkdir -p $(BUILD)/fuzz/found/$$name; \
		$(BUILD)/fuzz/lib/tests/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -len_control=20 -timeout=20 \
			-print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/$$name- \
			$(BUILD)/fuzz/found/$$name tests/fuzz/corpus/$$name; \
	done

# The same targets in AFL++'s persistent mode: its compiler links a driver for LLVMFuzzerTestOneInput().
AFL_CC       ?= afl-clang-fast
fuzz-afl: ## the same by AFL++, FUZZ_SECONDS (60) each
	@$(call need,afl-fuzz,afl++)
	@$(call need,$(AFL_CC),afl++)
	@AFL_QUIET=1 $(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz/afl FUZZING=1 CC=$(AFL_CC) WERROR= FUZZ_MAIN= \
		CFLAGS='-O1 -g -fno-omit-frame-pointer' SAN='$(FUZZ_SAN)' FUZZ_LINK=-fsanitize=fuzzer fuzz-programs
	@BUILD=$(BUILD) FUZZ_SECONDS=$(FUZZ_SECONDS) sh tests/fuzz/afl.sh $(FUZZ_TARGETS)

# Lines and branches of what is fuzzed that the corpus in the repository reaches (CORPUS: more directories like it).
LLVM         ?= llvm-
fuzz-coverage: ## how much of the fuzzed sources the corpus reaches, by llvm-cov
	@$(call need,$(LLVM)cov,llvm)
	@$(call need,$(LLVM)profdata,llvm)
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz/coverage FUZZING=1 CC=$(FUZZ_CC) WERROR= CFLAGS='-O0 -g' \
		SAN='-fprofile-instr-generate -fcoverage-mapping' fuzz-programs
	@BUILD=$(BUILD) LLVM=$(LLVM) sh tests/fuzz/coverage.sh $(CORPUS)

clean: ## remove what was built
	rm -rf $(BUILD)

# nc, ip and nft are what the demonstration itself needs; a machine that has them installs nothing more.
demo: ## show a dead connection without and with holdfast (20 seconds)
	@sh tools/deps.sh build
	@PATH=$$PATH:/usr/sbin:/sbin; for tool in nc ip nft; do \
		command -v $$tool >/dev/null || { sh tools/deps.sh all; break; }; \
	done
	@$(MAKE) --no-print-directory all
	@BUILD=$(abspath $(BUILD)) tools/demo.sh

picture: all ## record a detection again and draw the picture in README (10 seconds)
	@BUILD=$(abspath $(BUILD)) tools/picture/record.sh $(CURDIR)/tools/picture/detection.txt
	awk -f tools/picture/draw.awk tools/picture/detection.txt >$(BUILD)/detection.svg
	mv $(BUILD)/detection.svg tools/picture/detection.svg

# The library is put in place by a rename: a program that starts meanwhile finds the old one or the new one.
MAN1     := $(wildcard tools/man/*.1)
MAN7     := $(wildcard tools/man/*.7)
install: all ## install under PREFIX (DESTDIR, LIBDIR, BINDIR, MANDIR, DOCDIR as usual)
	install -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(DOCDIR)
	install -d $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR)
	install -m 644 $(BUILD)/libholdfast.so $(DESTDIR)$(LIBDIR)/.libholdfast.so.new
	mv -f $(DESTDIR)$(LIBDIR)/.libholdfast.so.new $(DESTDIR)$(LIBDIR)/libholdfast.so
	install -m 755 $(BUILD)/holdfast $(DESTDIR)$(BINDIR)/holdfast
	install -m 644 $(MAN1) $(DESTDIR)$(MANDIR)/man1
	install -m 644 $(MAN7) $(DESTDIR)$(MANDIR)/man7
	install -m 644 README.md SECURITY.md LICENSE $(DESTDIR)$(DOCDIR)
	install -d $(DESTDIR)$(DOCDIR)/grafana
	install -m 644 tools/grafana/holdfast.json $(DESTDIR)$(DOCDIR)/grafana
	install -m 644 tools/completions/holdfast.bash $(DESTDIR)$(BASHDIR)/holdfast
	install -m 644 tools/completions/_holdfast $(DESTDIR)$(ZSHDIR)/_holdfast

uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(LIBDIR)/libholdfast.so $(DESTDIR)$(BINDIR)/holdfast
	rm -f $(MAN1:tools/man/%=$(DESTDIR)$(MANDIR)/man1/%) $(MAN7:tools/man/%=$(DESTDIR)$(MANDIR)/man7/%)
	rm -f $(DESTDIR)$(DOCDIR)/README.md $(DESTDIR)$(DOCDIR)/SECURITY.md $(DESTDIR)$(DOCDIR)/LICENSE
	rm -f $(DESTDIR)$(DOCDIR)/grafana/holdfast.json
	[ ! -d $(DESTDIR)$(DOCDIR)/grafana ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(DOCDIR)/grafana
	rm -f $(DESTDIR)$(BASHDIR)/holdfast $(DESTDIR)$(ZSHDIR)/_holdfast
	[ ! -d $(DESTDIR)$(DOCDIR) ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(DOCDIR)

# A package for this machine's Debian.  In a build directory of its own: another LIBDIR is compiled into the tool.  The
# library is no library to link with: it lies in a directory of its own below the multi-arch one.
TRIPLET   = $(shell $(CC) -dumpmachine)
DEB       = $(BUILD)/holdfast_$(VERSION)_$(shell dpkg --print-architecture).deb
DEBDIRS   = PREFIX=/usr LIBDIR=/usr/lib/$(TRIPLET:x86_64-pc-linux-gnu=x86_64-linux-gnu)/holdfast \
	    ZSHDIR=/usr/share/zsh/vendor-completions
deb: ## make a Debian package, build/holdfast_VERSION_ARCH.deb
	@sh tools/deps.sh build
	@rm -rf $(BUILD)/deb/stage
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/deb CFLAGS='-O2 -g' DESTDIR=$(BUILD)/deb/stage $(DEBDIRS) install
	@sh tools/deb.sh $(BUILD)/deb/stage $(VERSION) $(DEB)

# For aarch64 with Debian's cross compiler, and what of the tests runs under qemu-user: units, models, old-style
# programs without and with the library.  The second library is for the latter: see tests/cross/qemu_cookie.h.
CROSS     = $(abspath $(BUILD))/cross/sysroot/usr
CROSS_CC  = aarch64-linux-gnu-gcc -isystem $(CROSS)/include -L$(CROSS)/lib/aarch64-linux-gnu \
	    -L$(CROSS_LIB) -Wl,-rpath-link,$(CROSS_LIB)
CROSS_LIB = $(CROSS)/../lib/aarch64-linux-gnu
cross-aarch64: ## build for aarch64 and run its tests under qemu-user (Debian only, two minutes)
	@$(call need,aarch64-linux-gnu-gcc,gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
	@$(call need,qemu-aarch64,qemu-user)
	@sh tools/cross.sh arm64 $(BUILD)/cross
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/aarch64 AR=aarch64-linux-gnu-ar CC='$(CROSS_CC)' programs
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/aarch64/qemu AR=aarch64-linux-gnu-ar \
		CC='$(CROSS_CC) -include tests/cross/qemu_cookie.h' $(BUILD)/aarch64/qemu/libholdfast.so
	@HF_TEST_LIMIT=900 tests/run cross

# The tool knows LIBDIR: build that part again when it changes between make and make install.
$(BUILD)/libdir: FORCE
	@mkdir -p $(@D)
	@echo '$(LIBDIR)' | cmp -s - $@ || echo '$(LIBDIR)' >$@
$(BUILD)/obj/tools/preload.o: $(BUILD)/libdir
FORCE:

# Lint: every check runs, whatever the others find.  A tool that is missing is named and counts as a finding.
LINT_C   := $(sort $(shell find include shim tools tests -name '*.[ch]'))
LINT_SH  := $(sort $(wildcard .ci/run tests/run tests/bench/run tests/bench/instead tests/bench/instead-faults tests/lab/matrix tests/lab/crowd tools/*.sh tools/picture/*.sh tools/completions/*.bash tests/*/*.sh tests/*/*.test tests/suites/long/*.test))
LINTS    := format tidy cppcheck shell man
lint: ## formatting and static analysis (installs nothing, names what is missing)
	@$(MAKE) --no-print-directory --keep-going $(LINTS:%=lint-%)
lint-format:
	@$(call need,clang-format); clang-format --dry-run -Werror $(LINT_C)
lint-tidy:
	@$(call need,clang-tidy); printf '%s\n' $(SHIM_SRC) $(TOOL_SRC) | \
		xargs -P $$(nproc) -I {} clang-tidy --quiet {} -- $(CPPFLAGS) $(CSTD) 2>&1 | \
		awk '!/^[0-9]+ warnings? (generated|treated)/ && !/^Suppressed/ {print; bad = 1} END {exit bad}'
# cppcheck reads no system headers: what it must know of them is told.
lint-cppcheck:
	@$(call need,cppcheck); cppcheck --quiet --enable=warning,performance,portability --inline-suppr --std=c11 \
		--error-exitcode=1 -D__$$(uname -m)__ '-DElfW(type)=Elf64_##type' \
		--suppress=duplicateAssignExpression $(CPPFLAGS) $(LINT_C)
lint-shell:
	@$(call need,shellcheck); shellcheck -x -P SCRIPTDIR -S warning $(LINT_SH)
lint-man:
	@$(call need,mandoc); ! mandoc -T lint $(MAN1) $(MAN7) 2>&1 | \
		grep -vE 'mandoc\.db|referenced manual not found'

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: CC, CFLAGS, PREFIX ($(PREFIX)), DESTDIR, LIBDIR, BINDIR, MANDIR, BUILD ($(BUILD)), SAN.'

.PHONY: all deps picture programs asan-programs tsan-programs sanitized test check-suites check-races compat-roots torture torture-programs fuzz fuzz-afl fuzz-coverage fuzz-corpus fuzz-programs check-fuzz matrix bench bench-readme bench-instead bench-scale check-faults soak crowd clean demo install uninstall deb cross-aarch64 lint $(LINTS:%=lint-%) help FORCE
.SECONDARY:

# Not of the sources of others in there.
-include $(shell find $(BUILD) \( -path $(BUILD)/suites -o -path $(BUILD)/roots \) -prune -o -name '*.d' -print 2>/dev/null)
