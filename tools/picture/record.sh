#!/bin/bash
# make picture: record what the picture in README shows, from a real run in network namespaces of its own (10 seconds).
#
# usage: tools/picture/record.sh FILE
#
# Three clients wait for servers that have nothing to say: one without holdfast and one with it, whose server's host
# vanishes, and one in wrap mode, whose server's program is stopped.  FILE gets a line for each thing to be seen:
#
#   MS<TAB>PANE<TAB>KIND<TAB>TEXT
#
# MS counts from the fault and is negative before it.  KIND is title, type (a command, with its prompt), out (a line
# that a program printed), fault, wait (the client was looked at, and waits) or end (it has ended).  FILE is replaced
# only if all came out as promised; exit status 0 only then.
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/lab/lab.sh
. tests/lab/lab.sh
[ $# -eq 1 ] || { echo "usage: tools/picture/record.sh FILE" >&2; exit 2; }
lab_enter "$@"
[ -z "${LAB_SKIP:-}" ] || { echo "picture: $LAB_SKIP" >&2; exit 1; }
[ -x "$BUILD/holdfast" ] || { echo "picture: $BUILD/holdfast is missing: run make first" >&2; exit 2; }
command -v nc >/dev/null || { echo "picture: nc is not installed (Debian: netcat-openbsd)" >&2; exit 2; }

WATCH=8 # seconds from the fault that are recorded
LOG=$LAB/log
HOLDFAST='holdfast run -i 1s -t 3s'
declare -A PID

note() { # note PANE KIND TEXT: at the time it is; written at once, for several do
	printf '%s\t%s\t%s\t%s\n' "${EPOCHREALTIME/./}" "$1" "$2" "$3" >>"$LOG"
}

# Start a command line as a reader could type it (pane 0 is not shown); its process id goes to ${PID[NAME]}, its lines
# into the recording.
start() { # start NAME PANE NAMESPACE COMMAND-LINE
	local name=$1 pane=$2 space=$3 line
	note "$pane" type "$space\$ $4"
	mkfifo "$S/$name.pipe"
	while IFS= read -r line; do note "$pane" out "$line"; done <"$S/$name.pipe" &
	# The host has a name of its own, for the event that tells the peer's.
	nsenter --net="$S/${space:0:1}" -- unshare --uts env PATH="$BUILD:$PATH" bash -c \
		"hostname $space 2>/dev/null; exec $4" </dev/null >"$S/$name.pipe" 2>&1 &
	PID[$name]=$!
	echo $! >>"$S/pids"
}

runs() { kill -0 "${PID[$1]}" 2>/dev/null; }
connected() { [ "$(in_ns c ss -tnH state established | wc -l)" -ge "$1" ]; }
fail() { echo "picture: $*" >&2; cat "$LOG" >&2; exit 1; }

# Two pairs of hosts: the network breaks between one, a program of the other's stops.
for pair in vanishing hung; do
	S=$LAB/$pair
	mkdir "$S" && : >"$S/pids"
	topology
done
S=$LAB/vanishing
start server1 0 server 'nc -l -p 7001'
start server2 0 server 'nc -l -p 7002'
note 1 title "Without holdfast"
note 2 title "With holdfast"
note 3 title "With holdfast at both ends, in wrap mode"
S=$LAB/hung
start server3 3 server "$HOLDFAST --wrap -- nc -l -p 7003"
sleep 1
S=$LAB/vanishing
start plain 1 client "cat </dev/tcp/$SERVER4/7001"
start held 2 client "$HOLDFAST -- cat </dev/tcp/$SERVER4/7002"
await 5 connected 2 || fail "the clients did not connect"
S=$LAB/hung
start wrapped 3 client "$HOLDFAST --wrap -- bash -c 'cat </dev/tcp/$SERVER4/7003'"
await 5 connected 1 || fail "the client in wrap mode did not connect"
sleep 1.5

S=$LAB/vanishing
fault vanish
ZERO=${EPOCHREALTIME/./}
for pane in 1 2; do
	note $pane fault "the server's host vanishes: every packet is lost from now on"
done
note 3 type "server\$ kill -STOP ${PID[server3]}"
kill -STOP "${PID[server3]}"
note 3 fault "the server's program hangs; its host goes on answering"

declare -A ENDED
for ((tick = 1; tick <= WATCH * 20; tick++)); do
	pause_until $((ZERO / 1000)) $((tick * 50))
	pane=0
	for name in plain held wrapped; do
		pane=$((pane + 1))
		[ -z "${ENDED[$name]:-}" ] || continue
		if runs $name; then
			[ $((tick % 20)) -ne 0 ] || note $pane wait "$((tick / 20)) s"
		else
			wait "${PID[$name]}"
			ENDED[$name]=$?
			note $pane end "ended, exit status ${ENDED[$name]}"
		fi
	done
done

runs plain || fail "the client without holdfast ended"
[ "${ENDED[held]:-0}" -ne 0 ] && [ "${ENDED[wrapped]:-0}" -ne 0 ] ||
	fail "a client with holdfast did not end with an error"
for pane in 2 3; do
	grep -q "^[0-9]*.$pane.out.cat: .*Connection timed out" "$LOG" ||
		fail "cat was not told ETIMEDOUT ($pane)"
done
grep -q ' dead: .*(path); ended with ETIMEDOUT' "$LOG" || fail "no event told the reason (path)"
grep -q ' dead: .*(hung); ended with ETIMEDOUT' "$LOG" || fail "no event told the reason (hung)"
disown -a # or the shell tells that they were killed
kill -KILL "${PID[@]}" 2>/dev/null
sort -s -n "$LOG" | awk -F '\t' -v OFS='\t' -v zero="$ZERO" '$2 != 0 {$1 = sprintf("%.0f", ($1 - zero) / 1000); print}' \
	>"$1.new" && mv "$1.new" "$1"
