# shellcheck shell=bash
# Shared by tests/suites/*.test (bash): the test suites of others, without the library and with it at both ends.
#
# A test defines run MODE UNIT, which runs a part of the suite (a module, a file, a single test) and writes lines
# "ok CASE", "fail CASE" or "skip CASE" to $RESULTS, and hands the units to compare().  Each run is in a network
# namespace of its own, bounded in time, in an empty directory that it may write to.
#
# Every case that passes without the library has to pass with it.  What differs is either in known.txt, with the
# reason, and told as SKIP, or a failure.  A case that passes when its unit is run once more, alone, is told as SKIP too:
# many of these suites mind a busy machine.
set -u
SUITES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$SUITES/../.." || exit 2
BUILD=$(realpath -m "${BUILD:-build}")
LIB=${LIB:-$BUILD/libholdfast.so}
GOT=${HF_SUITES_DIR:-$BUILD/suites}
TEST=suites/$(basename "$0" .test)
OUT=$(mktemp -d "${TMPDIR:-/tmp}/suites.XXXXXX") || exit 2
trap 'chmod -R u+w "$OUT"; rm -rf "$OUT"' EXIT
trap 'exit 1' INT TERM

skip_all() {
	echo "ok $TEST # SKIP $*"
	exit 0
}

# fetch NAME...: what tests/suites/get.sh gets, or the whole test says SKIP and ends.
fetch() {
	local name why
	for name; do
		why=$(sh "$SUITES/get.sh" "$GOT" "$name" 2>&1) || skip_all "${why##*$'\n'}"
	done
}

[ -f "$LIB" ] || {
	echo "not ok $TEST no $LIB"
	exit 1
}
# ip(8) is where ordinary users do not look.
PATH=$PATH:/usr/sbin:/sbin
unshare -rn ip link set lo up 2>/dev/null || skip_all "no network namespaces on this machine"

# apart SECONDS MODE COMMAND...: COMMAND in a network namespace of its own, with the library if MODE says so.
apart() {
	local limit=$1 mode=$2 environment=()
	shift 2
	[ "$mode" = plain ] || environment=("LD_PRELOAD=$LIB" "HOLDFAST_MODE=$mode" HOLDFAST_INTERVAL=100ms
		HOLDFAST_TIMEOUT=10s HOLDFAST_LEVEL=info HOLDFAST_FORMAT=json "HOLDFAST_REPORT=file:$RESULTS.json")
	# shellcheck disable=SC2016 # for the inner shell
	timeout --kill-after=5 "$limit" unshare -rn sh -c 'ip link set lo up; exec "$@"' sh \
		env ${environment[@]+"${environment[@]}"} "$@" </dev/null >"$RESULTS.log" 2>&1
}

# verdict CASE STATUS: what the exit status of a unit that is one case means.
verdict() {
	case $2 in
	0) echo "ok $1" ;;
	77) echo "skip $1" ;;
	*) echo "fail $1" ;;
	esac
}

# one MODE UNIT: run it; $RESULTS is for run() and what it calls.
one() {
	local RESULTS=$OUT/$1/$2 directory=$OUT/$1/$2.dir
	rm -rf "$RESULTS" "$RESULTS.json" "$directory"
	mkdir -p "$directory"
	(cd "$directory" && run "$1" "$2")
	# What the library said against it counts as a case that the plain run has passed.
	[ "$1" != plain ] || echo "ok $2:events" >>"$RESULTS"
	[ "$1" = plain ] || grep -qsE '"event":"corrupt"|"reason":"(path|hung|unanswered)"' "$RESULTS.json" ||
		echo "ok $2:events" >>"$RESULTS"
	rm -rf "$directory" 2>/dev/null
}

# differences MODE UNIT: the cases that pass without the library only.
differences() {
	LC_ALL=C comm -23 <(grep '^ok ' "$OUT/plain/$2" | LC_ALL=C sort -u) \
		<(cat "$OUT/$1/$2" 2>/dev/null | grep '^ok ' | LC_ALL=C sort -u) | cut -d ' ' -f 2-
}

# known MODE CASE: why it differs by design.
known() {
	local suite mode glob why
	while read -r suite mode glob why; do
		# shellcheck disable=SC2053 # a glob on purpose
		[ "$suite" = "${TEST#*/}" ] && [ "$mode" = "$1" ] && [[ $2 == $glob ]] && echo "$why" && return
	done <"$SUITES/known.txt"
	return 1
}

tell() { # tell MODE UNIT
	local mode=$1 unit=$2 name why again=''
	local -a names
	mapfile -t names < <(differences "$mode" "$unit")
	for name in ${names[@]+"${names[@]}"}; do
		known "$mode" "$name" >/dev/null || again=yes
	done
	if [ -n "$again" ]; then
		sed "s/^/# $mode $unit: /" "$OUT/$mode/$unit.log" | tail -n 60 | tr -cd '\n -~'
		cat "$OUT/$mode/$unit.json" 2>/dev/null | grep -E '"event":"corrupt"|"reason":"(path|hung|unanswered)"' | sed 's/^/# /' | head
		one plain "$unit"
		one "$mode" "$unit"
	fi
	for name in ${names[@]+"${names[@]}"}; do
		if why=$(known "$mode" "$name"); then
			echo "ok $TEST $mode $name # SKIP known: $why"
		elif grep -qxF "ok $name" "$OUT/plain/$unit" && ! grep -qxF "ok $name" "$OUT/$mode/$unit" 2>/dev/null; then
			echo "not ok $TEST $mode $name: passes only without the library"
		else
			echo "ok $TEST $mode $name # SKIP differed once, not when run again"
		fi
	done
}

# compare JOBS UNIT...: all of them, JOBS at a time.
compare() {
	local jobs=$1 unit mode total
	shift
	mkdir -p "$OUT"/{plain,probe,wrap}
	for unit; do
		for mode in plain probe wrap; do
			while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
			one "$mode" "$unit" &
		done
	done
	wait
	for mode in probe wrap; do
		for unit; do
			tell "$mode" "$unit"
		done
		total=$(find "$OUT/$mode" -maxdepth 1 -type f ! -name '*.log' ! -name '*.json' -exec cat {} + | grep -v ':events$' |
			grep -c '^ok ')
		if [ "$total" -gt 0 ]; then
			echo "ok $TEST $mode: $total cases pass as they do without it"
		else
			tail -n 20 "$OUT/plain/$1.log" | sed 's/^/# /'
			echo "not ok $TEST $mode: no case passes"
		fi
	done
}
