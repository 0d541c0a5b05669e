#!/bin/bash
# make demo: the same unmodified client on a connection whose other host vanishes, without and with holdfast.
# Ends within 20 seconds; exit status 0 only if it came out as promised.
cd "$(dirname "$0")/.." || exit 2
# shellcheck source=tests/lab/lab.sh
. tests/lab/lab.sh
lab_enter "$@"

WATCH=6 # seconds we watch
PLAIN='' HELD='' CAT='' PEERS=()

[ -f "$LIB" ] || { echo "demo: $LIB is missing: run make first" >&2; exit 2; }
command -v nc >/dev/null || { echo "demo: nc is not installed (Debian: netcat-openbsd)" >&2; exit 2; }

text() { printf '   %s\n' "$@"; }
step() { printf '\n%s\n\n' "$1"; }

# Run a command line in the background, shown as a reader could type it; its process id goes to $STARTED.
# start NAMESPACE NAME COMMAND-LINE: NAMESPACE is client, server or here; output and errors go to $S/NAME.
start() {
	local -a at=()
	case $1 in
	client) at=(nsenter --net="$S/c" --) ;;
	server) at=(nsenter --net="$S/s" --) ;;
	esac
	text "$1\$ $3"
	"${at[@]}" env PATH="$BUILD:$PATH" bash -c "exec $3" </dev/null >"$S/$2" 2>&1 &
	STARTED=$!
	echo "$STARTED" >>"$S/pids"
	disown
}

runs() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# The command line that starts COMMAND under holdfast.
under_holdfast() { # under_holdfast SETTINGS COMMAND
	if [ -x "$BUILD/holdfast" ]; then
		echo "${1:+env $1 }holdfast run -i 1s -t 3s -- $2"
	else
		echo "env ${1:+$1 }LD_PRELOAD=$LIB HOLDFAST_INTERVAL=1s HOLDFAST_TIMEOUT=3s $2"
	fi
}

status_of() { if runs "$1"; then echo "waiting"; else echo "ENDED"; fi; }

# Show the clients side by side, a line a second, and note when those with holdfast ended.
watch_them() {
	local second
	HELD_AFTER='' CAT_AFTER=''
	printf '\n   %-10s %-20s %-20s %s\n' '' 'nc' 'nc + holdfast' "${CAT:+cat + holdfast}"
	for ((second = 1; second <= WATCH; second++)); do
		while now && [ $((NOW - FAULT_AT)) -lt $((second * 1000)) ]; do
			[ -n "$HELD_AFTER" ] || runs "$HELD" || HELD_AFTER=$((NOW - FAULT_AT))
			[ -n "$CAT_AFTER" ] || runs "$CAT" || CAT_AFTER=$((NOW - FAULT_AT))
			sleep 0.05
		done
		printf '   after %d s  %-20s %-20s %s\n' $second "$(status_of "$PLAIN")" "$(status_of "$HELD")" \
			"${CAT:+$(status_of "$CAT")}"
	done
}

# What was promised: told in LOW to HIGH ms by holdfast, the event printed with REASON, the plain one still there.
verdict() { # verdict LOW HIGH REASON EXPLANATION
	local bad=''
	runs "$PLAIN" || bad+=" nc ended without holdfast."
	[ -n "$HELD_AFTER" ] || bad+=" nc did not end with holdfast."
	[ -z "$HELD_AFTER" ] || [ "$HELD_AFTER" -ge "$1" ] || bad+=" nc with holdfast ended too early."
	[ "${HELD_AFTER:-0}" -le "$2" ] || bad+=" nc with holdfast ended too late."
	grep -q "$3" "$S/nc-holdfast" || bad+=" no event told the reason ($3)."
	[ -z "$CAT" ] || grep -q 'timed out' "$S/cat-holdfast" || bad+=" cat was not told ETIMEDOUT."

	step "4. What came of it"
	if runs "$PLAIN"; then
		text "Without holdfast: nc is still waiting after $WATCH s, and nothing will ever wake it."
	fi
	if [ -n "$HELD_AFTER" ]; then
		text "With holdfast: nc ended $((HELD_AFTER / 1000)).$((HELD_AFTER % 1000 / 100)) s after the fault, $4" \
			"What it printed, the event with the verdict:"
		sed 's/^/     /' "$S/nc-holdfast"
	fi
	if [ -n "$CAT" ] && [ -n "$CAT_AFTER" ]; then
		text "cat, which tells the error it gets (ETIMEDOUT is \"Connection timed out\"):"
		grep -h 'cat:' "$S/cat-holdfast" | sed 's/^/     /'
	fi
	if [ -n "$bad" ]; then
		step "The demonstration FAILED:$bad"
		sed 's/^/   | /' "$S"/nc-holdfast "$S"/cat-holdfast 2>/dev/null
		exit 1
	fi
	printf '\n%s\n' "That is all. Next: README.md, or: $BUILD/holdfast run -- YOUR-PROGRAM"
}

connected() { [ "$(in_ns c ss -tnH state established | wc -l)" -ge "$1" ]; }

in_namespaces() {
	S=$LAB/demo
	mkdir "$S" && : >"$S/pids"
	step "1. A small network of its own, in namespaces that vanish when this ends: a client, a router
   and a server, 10.77.2.2. The server accepts connections and says nothing:"
	topology
	for port in 7001 7002 7003; do
		start server "server-$port" "nc -l -p $port"
	done
	sleep 0.5

	step "2. Clients as the distribution ships them connect and wait for the server to speak:"
	start client nc 'nc -n 10.77.2.2 7001'
	PLAIN=$STARTED
	start client nc-holdfast "$(under_holdfast '' 'nc -n 10.77.2.2 7002')"
	HELD=$STARTED
	start client cat-holdfast "$(under_holdfast '' "bash -c 'exec 3<>/dev/tcp/10.77.2.2/7003; exec cat <&3'")"
	CAT=$STARTED
	await 5 connected 3 || { echo "demo: the clients did not connect"; exit 1; }
	step "   All are connected and idle:"
	in_ns c ss -tnH state established | awk '{print "     client " $3 "  ->  " $4}'
	sleep 1

	step "3. The server's host vanishes, as if its power were cut: from now on every packet is lost."
	text 'router$ nft add rule inet lab forward drop'
	fault vanish
	watch_them
	verdict 1700 6000 path '3 s after the last packet from the server.'
}

# Without namespaces no packet can be lost, but a peer can hang: it takes our request and never answers.
on_loopback() {
	local port=$((20000 + RANDOM % 12000))
	S=$(mktemp -d) || exit 2
	trap 'kill_listed "$S/pids"; rm -rf "$S"' EXIT
	echo
	echo "This machine does not let us make a network to break ($LAB_SKIP)."
	echo "The next best: a server on 127.0.0.1 that hangs (it is stopped) and never answers a request."
	step "1. A server for each client"
	start here server-1 "nc -l -p $port"
	PEERS+=("$STARTED")
	start here server-2 "nc -l -p $((port + 1))"
	PEERS+=("$STARTED")
	sleep 0.5
	step "2. The servers hang."
	text "here\$ kill -STOP ${PEERS[*]}"
	kill -STOP "${PEERS[@]}" || exit 1
	step "3. Clients as the distribution ships them connect, send a request and wait for the answer:"
	start here nc "nc -n 127.0.0.1 $port <<<hello"
	PLAIN=$STARTED
	start here nc-holdfast "$(under_holdfast HOLDFAST_REPLY_TIMEOUT=3s "nc -n 127.0.0.1 $((port + 1))") <<<hello"
	HELD=$STARTED
	now
	FAULT_AT=$NOW
	watch_them
	verdict 2500 6000 unanswered '3 s after its request.'
}

echo "holdfast: a connection that died, without and with it (this takes about 8 seconds)"
if [ -n "${LAB_SKIP:-}" ]; then on_loopback; else in_namespaces; fi
