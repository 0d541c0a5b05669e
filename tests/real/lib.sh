# shellcheck shell=bash
# Shared by tests/real/*.test (bash): real programs on 127.0.0.1, with and without the library.
# Owns a scratch directory $DIR, the processes it started (killed by pid at the end), and the TAP lines.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
BUILD=${BUILD:-$PWD/build}
LIB=${LIB:-$BUILD/libholdfast.so}
TEST=$(basename "$0" .test)
DIR=$(mktemp -d "${TMPDIR:-/tmp}/$TEST.XXXXXX") || exit 2
chmod 755 "$DIR" # for servers that change to another user
PIDS=() started=

cleanup() {
	local pid
	for pid in ${PIDS[@]+"${PIDS[@]}"}; do
		kill "$pid" 2>/dev/null
	done
	wait 2>/dev/null
	rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

ok() {
	echo "ok $TEST $*"
}

not_ok() {
	echo "not ok $TEST $*"
}

# need PROGRAM...: all of them, or the whole test says SKIP and ends.
need() {
	local program
	for program; do
		command -v "$program" >/dev/null && continue
		echo "ok $TEST # SKIP no $program (tools/deps.sh test)"
		exit 0
	done
	[ -f "$LIB" ] && return
	not_ok "no $LIB"
	exit 1
}

# with SIDE WHO COMMAND...: run COMMAND, with the library if SIDE says so for WHO (client or server).
# SIDE: none, client, server, both.  Reports go to $DIR/SIDE.WHO.json.
with() {
	local side=$1 who=$2
	shift 2
	case $side in
	both | "$who")
		LD_PRELOAD=$LIB HOLDFAST_MODE=probe HOLDFAST_INTERVAL=100ms HOLDFAST_TIMEOUT=10s HOLDFAST_LEVEL=debug \
			HOLDFAST_FORMAT=json HOLDFAST_REPORT=file:$DIR/$side.$who.json "$@"
		;;
	*) "$@" ;;
	esac
}

# start SIDE WHO COMMAND...: the same in the background; its pid is in $started and it is killed at the end.
# $DIR/server.log has what it says.
start() {
	local preload=()
	case $1 in
	both | "$2")
		preload=("LD_PRELOAD=$LIB" HOLDFAST_MODE=probe HOLDFAST_INTERVAL=100ms HOLDFAST_TIMEOUT=10s HOLDFAST_LEVEL=debug
			HOLDFAST_FORMAT=json "HOLDFAST_REPORT=file:$DIR/$1.$2.json")
		;;
	esac
	shift 2
	env ${preload[@]+"${preload[@]}"} "$@" </dev/null >>"$DIR/server.log" 2>&1 &
	started=$!
	PIDS+=("$started")
}

# stop PID: end a process of ours and wait for it.
stop() {
	local pid keep=()
	kill "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	for pid in "${PIDS[@]}"; do
		[ "$pid" = "$1" ] || keep+=("$pid")
	done
	PIDS=(${keep[@]+"${keep[@]}"})
}

listening() { # listening PORT: without connecting to it
	grep -qE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$1") [0-9A-F]+:0000 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# A port that nobody uses now, below the range for outgoing connections.
free_port() {
	local port
	for _ in {1..200}; do
		port=$((20000 + RANDOM % 10000))
		grep -qE ":$(printf %04X $port) " /proc/net/tcp /proc/net/tcp6 2>/dev/null || break
	done
	echo $port
}

wait_listening() { # wait_listening PORT: for at most 10 s
	for _ in {1..200}; do
		listening "$1" && return
		sleep 0.05
	done
	sed 's/^/# /' "$DIR/server.log" 2>/dev/null
	not_ok "nobody listens on the port after 10 s"
	return 1
}

# same WHAT EXPECTED GOT: two files, byte for byte.
same() {
	if [ -s "$2" ] && cmp -s "$2" "$3"; then
		ok "$1"
	else
		diff -a -U2 "$2" "$3" 2>&1 | cut -c 1-200 | head -n 30 | sed 's/^/# /'
		not_ok "$1: differs or empty"
	fi
}

# The library was in each program that should have had it, and called nothing dead.
check_reports() {
	local bad report missing=
	for report; do
		grep -qs '"event":"open"' "$DIR/$report.json" || missing+=" $report"
	done
	if [ -n "$missing" ]; then
		not_ok "reports: no connection opened in:$missing"
	elif bad=$(grep -hE '"event":"(config|corrupt|gave-up|stalled)"|"reason":"(path|hung|unanswered)"' "$DIR"/*.json); then
		printf '# %s\n' "$bad" | head
		not_ok "reports: verdicts against healthy connections or complaints"
	else
		ok "reports: connections seen, none called dead"
	fi
}
