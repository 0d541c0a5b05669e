#!/bin/bash
# An older and a newer glibc: the root of another Debian release, made with debootstrap(8), and in it the old-style
# programs of tests/legacy, built there, with the library that was built here and with one built there.
#
#   tests/compat/roots.sh [SUITE...]      default: bullseye (glibc 2.31) and trixie (2.41); what "make compat-roots" does
#
# Needs root and Debian's archive, some 500 MB below $BUILD/roots for each, and minutes.  A root is made once; remove it
# to have a new one.  TAP; what cannot be had is told as SKIP.
set -u
cd "$(dirname "$0")/../.." || exit 2
BUILD=$(realpath "${BUILD:-$PWD/build}")
LIB=${LIB:-$BUILD/libholdfast.so}
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(bullseye trixie)
packages=gcc,libc6-dev,make,libbsd-dev,libmd-dev,procps
failed=0

if [ "$(id -u)" -ne 0 ] || ! command -v debootstrap >/dev/null; then
	echo "ok roots # SKIP needs root and debootstrap (Debian: apt-get install debootstrap)"
	exit 0
fi

# With a /proc and a loopback of its own; whatever was started there ends with it.
inside() { # inside ROOT COMMAND...
	unshare --mount --pid --net --fork --kill-child bash -c '
		mount -t proc proc "$0/proc" && ip link set lo up && exec chroot "$0" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
			HOME=/root LC_ALL=C.UTF-8 "$@"' "$@"
}

tap() { # tap SUITE WHAT: the TAP on standard input, renamed; what failed is counted
	local line
	while IFS= read -r line; do
		case $line in
		'ok '*) echo "ok $1, $2: ${line#ok }" ;;
		'not ok '*)
			echo "not ok $1, $2: ${line#not ok }"
			failed=$((failed + 1))
			;;
		*) echo "$line" ;;
		esac
	done
}

for suite in "${suites[@]}"; do
	root=$BUILD/roots/$suite
	if [ ! -f "$root/complete" ]; then
		rm -rf --one-file-system "$root"
		mkdir -p "$root"
		if ! timeout 900 debootstrap --variant=minbase --include=$packages "$suite" "$root" >"$root.log" 2>&1; then
			echo "ok roots: $suite # SKIP cannot be had: $(tail -n 1 "$root.log")"
			rm -rf --one-file-system "$root"
			continue
		fi
		touch "$root/complete"
	fi
	glibc=$(inside "$root" getconf GNU_LIBC_VERSION)
	rm -rf "$root/hf"
	mkdir -p "$root/hf/tests"
	cp -r Makefile shim include "$root/hf"
	cp -r tests/legacy "$root/hf/tests"
	# Warnings of other compilers are not what is asked here, nor are programs that call what an older libc lacks.
	# shellcheck disable=SC2016 # for make
	if ! inside "$root" sh -c 'cd /hf && printf "include Makefile\nlegacy: \$(LEGACY)\n" >legacy.mk &&
		make -f legacy.mk -j2 WERROR= BUILD=build build/libholdfast.so &&
		{ make -k -f legacy.mk -j2 WERROR= BUILD=build legacy || :; }' >"$root.log" 2>&1; then
		tail -n 20 "$root.log" | cut -c 1-200 | sed 's/^/# /'
		echo "not ok roots: $suite: does not build"
		failed=$((failed + 1))
		continue
	fi
	echo "ok roots: $suite: builds with gcc $(inside "$root" gcc -dumpversion), $glibc"
	for program in tests/legacy/zoo_*.c; do
		program=$(basename "$program" .c)
		[ -x "$root/hf/build/tests/legacy/$program" ] ||
			echo "ok $suite: $program # SKIP $(grep -m 1 -oE "$program\.c:.*(undefined|undeclared).*" "$root.log")"
	done
	cp "$LIB" "$root/hf/here.so"
	tap "$suite" "library built here" < <(inside "$root" MODES='probe wrap' LIB=/hf/here.so BUILD=/hf/build CC=gcc \
		timeout 400 /hf/tests/legacy/zoo.test 2>&1)
	tap "$suite" "library built there" < <(inside "$root" MODES='probe wrap' BUILD=/hf/build CC=gcc timeout 200 \
		/hf/tests/legacy/zoo.test 'zoo_[dps]*' 2>&1)
done
[ $failed -eq 0 ]
