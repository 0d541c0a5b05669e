# shellcheck shell=bash
# Shared by tests/real/*.test (bash): real programs on 127.0.0.1, with and without the library.
#
# A test defines sessions, functions that play one conversation and say all they see on standard output, and hands
# each to combine(), which runs it once for each combination of the library with its ends and compares what was said.
# Owns a scratch directory $TOP, the processes it started (killed by pid at the end), and the TAP lines.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
BUILD=${BUILD:-$PWD/build}
LIB=${LIB:-$BUILD/libholdfast.so}
TEST=$(basename "$0" .test)
TOP=$(mktemp -d "${TMPDIR:-/tmp}/$TEST.XXXXXX") || exit 2
chmod 755 "$TOP" # for servers that change to another user
DIR=$TOP
PIDS=() started=

# A combination is MODE-ENDS: in which mode the library is, at which end.
PROBE=(none probe-client probe-server probe-both)
ALL=("${PROBE[@]}" wrap-client wrap-server wrap-both)
# For programs of many processes: what is between probe mode at one end and at both is told by ALL, on demand.
SHAPES=(none probe-both wrap-client wrap-server wrap-both)
# shellcheck disable=SC2034 # those tests do
[ -z "${HF_TEST_HEAVY-}" ] || SHAPES=("${ALL[@]}")

end_processes() {
	local pid
	for pid in ${PIDS[@]+"${PIDS[@]}"}; do
		kill "$pid" 2>/dev/null
	done
	wait 2>/dev/null
}

cleanup() {
	end_processes
	[ -n "${KEEP-}" ] || rm -rf "$TOP"
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

# settings TAG WHO: a test may set more than environment() does, as NAME=VALUE lines.
settings() {
	:
}

# environment TAG WHO: sets $environment to what WHO (client or server) runs with.  Its reports go to $DIR/WHO.json.
environment() {
	environment=()
	case $1 in
	*-both | *-"$2")
		environment=("LD_PRELOAD=$LIB" "HOLDFAST_MODE=${1%-*}" HOLDFAST_INTERVAL=100ms HOLDFAST_TIMEOUT=10s
			HOLDFAST_LEVEL=debug HOLDFAST_FORMAT=json "HOLDFAST_REPORT=file:$DIR/$2.json")
		# Nobody will answer: less to wait for at each connection.
		[ "$1" != wrap-client ] || environment+=(HOLDFAST_HELLO_WAIT=300ms)
		mapfile -t -O ${#environment[@]} environment < <(settings "$1" "$2")
		;;
	esac
}

# with TAG WHO COMMAND...: run COMMAND, with the library if TAG says so for WHO.
with() {
	local environment
	environment "$1" "$2"
	shift 2
	env ${environment[@]+"${environment[@]}"} "$@"
}

# start TAG WHO COMMAND...: the same in the background; its pid is in $started and it is killed at the end.
# $DIR/server.log has what it says.  ${AS[@]} changes to another user first.
AS=()
start() {
	local environment
	environment "$1" "$2"
	shift 2
	${AS[@]+"${AS[@]}"} env ${environment[@]+"${environment[@]}"} "$@" </dev/null >>"$DIR/server.log" 2>&1 &
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

# A port that nobody uses now and that has not been given away before, below the range for outgoing connections.
# Sessions side by side draw from ranges apart.
lane=0 lanes=1
free_port() {
	local port width=$((12000 / lanes))
	for _ in {1..200}; do
		port=$((20000 + lane * width + RANDOM % width))
		grep -qE ":$(printf %04X $port) " /proc/net/tcp /proc/net/tcp6 2>/dev/null && continue
		# Who is given two may ask for the second before he listens on the first.
		mkdir "$TOP/port-$port" 2>/dev/null && break
	done
	echo $port
}

wait_listening() { # wait_listening PORT: for at most 10 s
	for _ in {1..200}; do
		listening "$1" && return
		sleep 0.05
	done
	echo "nobody listens on the port after 10 s"
	cat "$DIR/server.log" 2>/dev/null
	return 1
}

# idle PID: with its connections open and nothing to do, a program uses next to no processor time, beats or not.
idle() {
	local before after seconds=3
	before=$(cut -d ' ' -f 14,15 "/proc/$1/stat" | tr ' ' '+')
	sleep $seconds
	after=$(cut -d ' ' -f 14,15 "/proc/$1/stat" | tr ' ' '+')
	[ -n "$after" ] || {
		echo "idle: it has ended"
		return
	}
	if [ $((after - (before))) -le $((seconds * $(getconf CLK_TCK) / 5)) ]; then
		echo "idle: quiet"
	else
		echo "idle: $((after - (before))) ticks in $seconds s"
	fi
}

# idle_all PIDS: the same for several processes at once, each by itself.
idle_all() {
	local pid
	for pid in $1; do
		idle "$pid" >"$DIR/idle.$pid" &
	done
	for pid in $1; do
		while [ ! -s "$DIR/idle.$pid" ]; do
			sleep 0.1
		done
	done
	for pid in $1; do
		cat "$DIR/idle.$pid"
	done | sort | uniq -c
}

# keep_orphans: first of all in a test: processes whose parent has ended become this one's (PR_SET_CHILD_SUBREAPER,
# prctl(2)), so that no_orphans, last of all, finds every process that a session has left over.
keep_orphans() {
	[ -z "${HF_REAPER-}" ] || return
	local prctl=157
	[ "$(uname -m)" = x86_64 ] || prctl=167
	rmdir "$TOP"
	HF_REAPER=1 exec perl -e 'syscall(shift, 36, 1, 0, 0, 0); exec @ARGV or die' "$prctl" bash "$0"
}

no_orphans() {
	local left
	for _ in {1..60}; do
		read -r left <"/proc/$$/task/$$/children"
		[ -n "$left" ] || break
		sleep 0.05
	done
	if [ -z "$left" ]; then
		ok "no process left over"
		return
	fi
	# shellcheck disable=SC2086 # a list
	ps -o pid=,stat=,args= -p $left | sed 's/^/# /'
	not_ok "processes left over"
	# shellcheck disable=SC2086
	kill $left
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

# $UNSUSPECTED: lines that are no complaint, as grep(1) takes it.
UNSUSPECTED='^$'

# check_reports WHAT TAG: the library was in each program that should have had it, agreed with the peer on wrap mode
# where both ends have it, and called nothing dead.  $ENDS: who runs with the library if both do.
ENDS=(client server)
check_reports() {
	local what=$1 tag=$2 event=open end ends=("${ENDS[@]}") missing='' bad
	case $tag in
	wrap-both) event=wrapped ;;
	wrap-*) event=plain ;;
	esac
	[ "${tag#*-}" = both ] || ends=("${tag#*-}")
	for end in "${ends[@]}"; do
		grep -qs "\"event\":\"$event\"" "$DIR/$end.json" || missing+=" $end"
	done
	if [ -n "$missing" ]; then
		not_ok "$what: nothing told as $event by:$missing"
	elif bad=$(grep -hE '"event":"(config|corrupt|gave-up|stalled)"|"reason":"(path|hung|unanswered)"' "$DIR"/*.json |
		grep -v "$UNSUSPECTED"); then
		printf '# %s\n' "$bad" | head
		not_ok "$what: verdicts against healthy connections or complaints"
	else
		ok "$what: connections told as $event, none called dead"
	fi
}

# abreast TAG SESSION...: within a session, several parts of it at once, each in a directory of its own; what they say is
# said one after the other.
abreast() {
	local tag=$1 part pids=()
	shift
	lane=$((lane * $#)) lanes=$((lanes * $#))
	for part; do
		(
			PIDS=()
			DIR=$DIR/$part
			trap end_processes EXIT
			trap 'exit 1' INT TERM
			mkdir "$DIR"
			"$part" "$tag" >"$DIR/said" 2>&1
		) &
		pids+=($!)
		PIDS+=($!)
		lane=$((lane + 1))
	done
	wait "${pids[@]}"
	for part; do
		echo "$part:"
		cat "$DIR/$part/said"
		cat "$DIR/$part/client.json" >>"$DIR/client.json" 2>/dev/null
		cat "$DIR/$part/server.json" >>"$DIR/server.json" 2>/dev/null
	done
}

# combine SESSION EXPECTED [TAG...]: SESSION TAG in a subshell for each TAG (default: $ALL), all at once, with $DIR a
# directory of its own ($TOP has what the test made before).  EXPECTED FILE says whether what was said without the
# library is right; with it the same must be said.
combine() {
	local session=$1 expected=$2 tag tags pids=()
	shift 2
	tags=("$@")
	[ $# -gt 0 ] || tags=("${ALL[@]}")
	lane=0 lanes=${#tags[@]}
	for tag in "${tags[@]}"; do
		(
			PIDS=()
			DIR=$TOP/$session/$tag
			trap end_processes EXIT
			trap 'exit 1' INT TERM
			mkdir -p "$DIR"
			chmod 755 "$TOP/$session" "$DIR"
			"$session" "$tag" >"$DIR/said" 2>&1
		) &
		pids+=($!)
		PIDS+=($!)
		lane=$((lane + 1))
	done
	wait "${pids[@]}"
	PIDS=()
	for tag in "${tags[@]}"; do
		DIR=$TOP/$session/$tag
		if [ "$tag" != none ]; then
			same "$session, $tag: same as without" "$TOP/$session/none/said" "$DIR/said"
			check_reports "$session, $tag" "$tag"
		elif "$expected" "$DIR/said"; then
			ok "$session, plain"
		else
			sed 's/^/# /' "$DIR/said" "$DIR/server.log" 2>/dev/null
			not_ok "$session, plain"
		fi
	done
	DIR=$TOP
}
