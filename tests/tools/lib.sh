# shellcheck shell=bash disable=SC2034
# For the tests of top, explain and metrics; sourced.  They run in a pid namespace of their own with its own /proc:
# nothing is in it that they did not start, and it ends with them.
set -u
export LC_ALL=C.UTF-8 TZ=UTC
HERE=$(cd "$(dirname "$0")" && pwd)
TOP=${TOP:-$(cd "$HERE/../.." && pwd)}
BUILD=${BUILD:-$TOP/build}
tool=$BUILD/holdfast lib=$BUILD/libholdfast.so writer=$BUILD/tests/tools/arena_writer

if [ -z "${HF_TOOLS_INSIDE:-}" ]; then
	export HF_TOOLS_INSIDE=yes TOP BUILD
	for how in -pf -Urpf; do
		if unshare $how --kill-child --mount-proc true 2>/dev/null; then
			exec unshare $how --kill-child --mount-proc bash "$0" "$@"
		fi
	done
	echo "ok $(basename "$0" .test) # SKIP no pid namespace with a /proc of its own can be made here"
	exit 0
fi

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
for name in $(compgen -e | grep -E '^(HOLDFAST_|NO_COLOR|LD_PRELOAD)'); do unset "$name"; done
n=0 failures=0 rc=0 W=
: >"$dir/out"
: >"$dir/err"

result() { # result NAME: report the status of the command before it
	local status=$?
	n=$((n + 1))
	if [ $status -eq 0 ]; then
		echo "ok $n - $1"
		return
	fi
	failures=$((failures + 1))
	echo "not ok $n - $1"
	echo "# check $status, exit status $rc"
	head -n 40 "$dir/out" | sed 's/^/# out: /'
	head -n 10 "$dir/err" | sed 's/^/# err: /'
}

try() { # try ARGUMENT...: of the tool; bounded
	timeout 20 "$tool" "$@" >"$dir/out" 2>"$dir/err" </dev/null
	rc=$?
}

await() { # await COMMAND...: until it succeeds, 8 seconds at most
	local i
	for ((i = 0; i < 160; i++)); do
		"$@" && return
		sleep 0.05
	done
	return 1
}

writer_start() { # writer_start WHAT...: an arena_writer; its pid is in $W
	rm -f "$dir/in" "$dir/ready" # what the last one said is no word of this one
	mkfifo "$dir/in"
	"$writer" "$@" <"$dir/in" >"$dir/ready" &
	W=$!
	exec 9>"$dir/in"
	await grep -qs ready "$dir/ready"
}

writer_stop() {
	exec 9>&-
	[ -z "$W" ] || wait "$W"
	W=
}

# The writer's pid by its name, in as many columns; times of events; no blanks at the ends of lines.
plainly() {
	sed -E "s/$(printf '%7d' "$W")/    PID/; s/\[$W\]/[PID]/; s/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}/DATE TIME/
		s/looked at [0-9.]+m?s ago/looked at 0ms ago/; s/next in [0-9.]+m?s/next in 0s/; s/ +$//"
}

# The output is that of tests/tools/screens/NAME.txt.  HF_SCREENS=write writes it there instead, to be looked at.
looks() { # looks NAME FILE
	if [ "${HF_SCREENS:-}" = write ]; then
		mkdir -p "$HERE/screens"
		cp "$2" "$HERE/screens/$1.txt"
	fi
	diff "$HERE/screens/$1.txt" "$2" >"$dir/diff"
}

finish() {
	[ $failures -eq 0 ]
	exit
}
