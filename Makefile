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

WARN     := -Wall -Wextra -Wconversion -Wshadow $(WERROR)
CPPFLAGS += -D_GNU_SOURCE -DHF_VERSION='"$(VERSION)"' -DHF_LIBDIR='"$(LIBDIR)"' -Iinclude -Ishim
CSTD     := -std=gnu11
SAN      ?=
ALLFLAGS  = $(CPPFLAGS) $(CSTD) $(WARN) $(CFLAGS) $(SAN) -MMD -MP

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
TOOL_SRC  := $(sort $(wildcard tools/*.c))
SHIM_OBJ  := $(SHIM_SRC:%.c=$(BUILD)/pic/%.o)
PURE_OBJ  := $(PURE_SRC:%.c=$(BUILD)/obj/%.o)
TOOL_OBJ  := $(TOOL_SRC:%.c=$(BUILD)/obj/%.o)

UNIT      := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(sort $(wildcard tests/unit/test_*.c)))
MODEL     := $(patsubst tests/model/%.c,$(BUILD)/tests/model/%,$(sort $(wildcard tests/model/test_*.c)))
# Plain C programs, written the way old programs are: no library of ours, no cmocka.
LEGACY    := $(patsubst tests/legacy/%.c,$(BUILD)/tests/legacy/%,$(sort $(wildcard tests/legacy/*.c)))
LAB       := $(patsubst tests/lab/%.c,$(BUILD)/tests/lab/%,$(sort $(wildcard tests/lab/*.c)))
BENCH     := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(sort $(wildcard tests/bench/*.c)))

all: $(BUILD)/libholdfast.so $(BUILD)/holdfast

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) $(SHIMFLAGS) -c $< -o $@

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -c $< -o $@

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

$(BUILD)/holdfast: $(TOOL_OBJ) $(BUILD)/libpure.a
	$(CC) $(CFLAGS) $(SAN) -o $@ $(TOOL_OBJ) $(BUILD)/libpure.a $(BSD_A)

$(BUILD)/tests/unit/%: tests/unit/%.c $(BUILD)/libpure.a
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -o $@ $< $(BUILD)/libpure.a $(BSD_A) -lcmocka -lpthread

$(BUILD)/tests/model/%: tests/model/%.c $(BUILD)/libpure.a
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -o $@ $< $(BUILD)/libpure.a $(BSD_A) -lpthread

$(BUILD)/tests/%: tests/%.c
	@mkdir -p $(@D)
	$(CC) $(ALLFLAGS) -o $@ $< -lpthread

deps:
	@sh tools/deps.sh

programs: all $(UNIT) $(MODEL) $(LEGACY) $(LAB) $(BENCH)

test: deps
	@$(MAKE) --no-print-directory programs
	@tests/run

# One suite: make check-unit, check-legacy, check-lab, ...
check-%:
	@$(MAKE) --no-print-directory programs
	@tests/run $*

clean:
	rm -rf $(BUILD)

.PHONY: all deps programs test clean
.SECONDARY:

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
