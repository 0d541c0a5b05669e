# shellcheck shell=bash disable=SC2034,SC2053,SC2016,SC2015
# The lab: network namespaces, faults between them, and checks on how programs end.  Sourced by tests/lab/*.test.
#
#   client namespace c          router namespace r          server namespace s
#   eth0 10.77.1.2/24  ------- c0  10.77.1.1 | s0 10.77.2.1 ------- eth0 10.77.2.2/24
#        fd77:1::2/64              fd77:1::1 |    fd77:2::1              fd77:2::2/64
#
# A test file:  . lab.sh; lab_enter "$@"; scenario NAME FUNCTION [ARG...] ...; lab_finish
# Scenarios run at the same time, each in a subshell with a directory $S and, after topology(), namespaces of its own.
# Everything lives in one private mount, pid and network namespace that ends with the test file, however it ends;
# nothing outside it is touched.

set -u
export LC_ALL=C
TOP=${TOP:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
BUILD=${BUILD:-$TOP/build}
. "$TOP/tests/quiet.sh"
LIB=${HF_LIB:-$BUILD/libholdfast.so}
BIN=$BUILD/tests/lab
LAB=$BIN/run # a mount point; what is in it is seen by this test file only
SERVER4=10.77.2.2 SERVER6=fd77:2::2

# The usual settings, and what an assertion allows around them, in ms.
INTERVAL=1000 TIMEOUT=3000
TICK=250 # how late the watchdog may look at most (README, "How verdicts are made")
SLACK=${HF_LAB_SLACK:-1500} # how late a loaded machine may be: a watchdog starved for long grants a fresh timeout

# --- entering and leaving ----------------------------------------------------------------------------------------

# Why this machine cannot run the lab; nothing when it can.  HOW is the unshare options to enter by.
lab_try() { # lab_try HOW...
	unshare "$@" -- sh -c '
		for tool in ip nft nsenter; do
			command -v $tool >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
		done
		ip link add lab0 type veth peer name lab1 && nft add table inet lab &&
		mount -t tmpfs tmpfs "$0" || exit
		# A mount takes its propagation from its parent: shared, it is seen outside, and so is its end.
		grep -q " $0 .* shared:" /proc/self/mountinfo || exit 0
		umount "$0"
		echo "mounts would be seen outside: this is a chroot whose root is no mount point" >&2
		exit 1' "$LAB" 2>&1 >/dev/null | head -n 1
	[ "${PIPESTATUS[0]}" -eq 0 ]
}

# Go on inside private namespaces.  With a pid namespace where possible: then nothing can outlive the test.
lab_enter() { # lab_enter [ARG...]: the arguments of the test file
	local -a as=(-nm)
	local why
	export PATH=$PATH:/usr/sbin:/sbin
	if [ -n "${LAB_INSIDE:-}" ]; then
		mount -t tmpfs tmpfs "$LAB" || exit 1
		trap lab_leave EXIT
		trap 'cat "$LAB"/*/tap 2>/dev/null; echo "not ok lab: stopped before its end"; exit 143' TERM
		trap 'exit 130' INT
		return
	fi
	mkdir -p "$LAB"
	[ "$(id -u)" -eq 0 ] || as=(-Urnm)
	# In a chroot whose root is no mount point unshare(1) cannot make the mounts private; lab_try sees if they are.
	unshare "${as[@]}" true 2>/dev/null || as+=(--propagation unchanged)
	if lab_try "${as[@]}" --pid --fork --mount-proc >/dev/null; then
		LAB_INSIDE=1 exec unshare "${as[@]}" --pid --fork --mount-proc --kill-child -- bash "$0" "$@"
	elif why=$(lab_try "${as[@]}"); then
		LAB_INSIDE=1 exec unshare "${as[@]}" -- bash "$0" "$@"
	fi
	LAB_SKIP="namespaces are not allowed here: $why"
}

lab_leave() {
	local file
	for file in "$LAB"/*/pids; do
		[ ! -f "$file" ] || kill_listed "$file"
	done
}

kill_listed() { # kill_listed FILE: the processes whose ids are in FILE
	# shellcheck disable=SC2046 # one word a process
	kill -KILL $(cat "$1") 2>/dev/null
}

# --- scenarios ---------------------------------------------------------------------------------------------------

SCENARIOS=()

scenario() { # scenario NAME FUNCTION [ARG...]
	local name=$1
	shift
	if [ -n "${LAB_SKIP:-}" ]; then
		echo "ok $name # SKIP $LAB_SKIP"
		return
	fi
	[[ $name == ${LAB_ONLY:-*} ]] || return 0 # LAB_ONLY: a pattern, for working on one scenario
	when_quiet 10
	SCENARIOS+=("$name")
	S=$LAB/$name
	mkdir "$S"
	: >"$S/pids"
	(
		trap - EXIT
		("$@")
		kill_listed "$S/pids"
		[ ! -e "$S/failed" ] || show_files
		[ ! -e "$S/failed" ] || [ -z "${LAB_KEEP:-}" ] || cp -r "$S" "$LAB_KEEP/${S##*/}.$BASHPID" # to look into
	) >"$S/tap" 2>&1 &
}

# Wait for every scenario and print its lines, in the order of the file.
lab_finish() {
	local name status=0
	wait
	for name in "${SCENARIOS[@]}"; do
		cat "$LAB/$name/tap"
		if [ -e "$LAB/$name/failed" ]; then
			status=1
		elif ! grep -q '^ok ' "$LAB/$name/tap"; then
			echo "not ok $name: it ended without a check"
			status=1
		fi
	done
	exit $status
}

# What the programs left behind that a failed check was about.
show_files() {
	local name file
	for name in $(sort -u "$S/failed"); do
		for file in "$S/$name".{out,err,events}; do
			[ ! -s "$file" ] || tail -n 8 "$file" | sed "s|^|# ${file##*/}: |"
		done
	done
}

ok() { # ok NAME [NOTE]
	echo "ok ${S##*/}: $1${2:+ ($2)}"
}

not_ok() { # not_ok NAME NOTE: the first word of NAME is that of a program where it fits
	echo "not ok ${S##*/}: $1: $2"
	echo "${1%%[ :]*}" >>"$S/failed"
}

give_up() { # give_up NAME NOTE: the rest of the scenario would mean nothing
	not_ok "$@"
	exit 1
}

check() { # check NAME COMMAND...: ok when COMMAND succeeds
	local name=$1
	shift
	if "$@" >/dev/null; then ok "$name"; else not_ok "$name" "failed: $*"; fi
}

# --- time ----------------------------------------------------------------------------------------------------------

now() { # milliseconds since the epoch, in $NOW
	NOW=${EPOCHREALTIME/./}
	NOW=${NOW%???}
}

# Sleep until MS after the time SINCE.
pause_until() { # pause_until SINCE MS
	local left
	now
	left=$(($1 + $2 - NOW))
	[ $left -le 0 ] || sleep "$((left / 1000)).$(printf %03d $((left % 1000)))"
}

await() { # await SECONDS COMMAND...: until COMMAND succeeds
	local until=$((SECONDS + $1 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $until ] || return 1
		sleep 0.05
	done
}

# --- topology and faults -------------------------------------------------------------------------------------------

in_ns() { # in_ns NAMESPACE COMMAND...
	local ns=$1
	shift
	nsenter --net="$S/$ns" -- "$@"
}

# A namespace held by its file $S/NAME.
make_ns() {
	: >"$S/$1"
	unshare --net="$S/$1" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up'
}

join() { # join END NUMBER: put the pair END.eth0 -- r.END0 between END (c or s) and the router
	in_ns r ip link add "${1}0" type veth peer name eth0 netns "$S/$1" || return
	in_ns r ip -batch - <<-END || return
		addr add 10.77.$2.1/24 dev ${1}0
		addr add fd77:$2::1/64 dev ${1}0 nodad
		link set ${1}0 up
	END
	in_ns "$1" ip -batch - <<-END
		addr add 10.77.$2.2/24 dev eth0
		addr add fd77:$2::2/64 dev eth0 nodad
		link set eth0 up
		route add default via 10.77.$2.1
		route add default via fd77:$2::1
	END
}

topology() {
	{
		make_ns c && make_ns r && make_ns s && join c 1 && join s 2 &&
			in_ns r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
				echo 1 >/proc/sys/net/ipv6/conf/all/forwarding' &&
			in_ns r nft 'add table inet lab; add chain inet lab forward { type filter hook forward priority 0; }'
	} || give_up topology "could not be made"
	# The hosts get to know each other (ARP, neighbour discovery) before anything is timed: a SYN that waits for that
	# counts as a round trip of a second, and the kernel then retransmits that much later.
	in_ns c timeout 10 bash -c "(: </dev/tcp/$SERVER4/9); (: </dev/tcp/$SERVER6/9)" 2>/dev/null
	true
}

# Bring a fault about and note when, in $FAULT_AT.
fault() { # fault KIND
	local rule
	case $1 in
	vanish) rule='drop' ;;                  # the other host is gone
	to-server) rule='iifname "c0" drop' ;;  # only what the client sends is lost
	to-client) rule='iifname "s0" drop' ;;  # only what the server sends is lost
	reject) rule='reject with icmpx type host-unreachable' ;;
	reset) rule='meta l4proto tcp reject with tcp reset' ;;
	link) in_ns c ip link set eth0 down ;;  # the client's own interface
	cable) in_ns r ip link set c0 down ;;   # no carrier
	esac
	[ -z "${rule:-}" ] || in_ns r nft "flush chain inet lab forward; add rule inet lab forward $rule" ||
		give_up "fault $1" "could not be made"
	now
	FAULT_AT=$NOW
}

heal() { in_ns r nft 'flush chain inet lab forward'; }

SEED=${SEED:-$RANDOM} # of everything that is drawn by lot; told, so that it can be given again

# In place of the cable between router and server one on which happens what SETTINGS say (path.c).  Fails, with the
# reason in $PROBLEM, where TUN devices are not to be had.
bad_path() { # bad_path SETTINGS
	printf '%s\n' "$1" >"$S/path.settings"
	in_ns r ip link del s0
	"$BIN/path" "$SEED" "$S/path.settings" "$S/r" s0 "$S/s" eth0 >"$S/path.out" 2>&1 &
	PATH_PID=$!
	echo $PATH_PID >>"$S/pids"
	PROBLEM="no TUN devices here"
	await 10 grep -Eq '^(ready|failed)' "$S/path.out"
	grep -q '^ready' "$S/path.out" || return
	in_ns r ip -batch - <<-END && in_ns s ip -batch - <<-END2 || give_up path "could not be made"
		addr add 10.77.2.1/24 dev s0
		addr add fd77:2::1/64 dev s0 nodad
		link set s0 up
	END
		addr add 10.77.2.2/24 dev eth0
		addr add fd77:2::2/64 dev eth0 nodad
		link set eth0 up
		route add default via 10.77.2.1
		route add default via fd77:2::1
	END2
}

# From now on other SETTINGS.
path_is() { # path_is SETTINGS
	local readings
	readings=$(grep -c '^path' "$S/path.out")
	printf '%s\n' "$1" >"$S/path.settings"
	kill -HUP $PATH_PID
	await 5 eval '[ $(grep -c ^path "$S/path.out") -gt '"$readings"' ]' || give_up path "does not read its settings"
	now
	FAULT_AT=$NOW
}

# What it has done so far, in $COUNTS: "packets N lost N doubled N late N damaged N full N".
path_counts() {
	kill -USR1 $PATH_PID
	await 5 grep -q '^packets' "$S/path.out"
	COUNTS=$(grep '^packets' "$S/path.out" | tail -n 1)
}

# A NAT router: what it does not know it drops, or answers with a reset.  Fails where there is no connection tracking.
nat_router() { # nat_router drop|reset
	local unknown=drop
	[ "$1" != reset ] || unknown='meta l4proto tcp reject with tcp reset'
	in_ns r nft -f - <<-END 2>"$S/nft.err" || return
		table ip nat {
			chain post { type nat hook postrouting priority 100; oifname "s0" masquerade; }
		}
		table inet guard {
			chain forward {
				type filter hook forward priority 10;
				ct state established accept
				ct state new tcp flags & (syn|ack) == syn accept
				$unknown
			}
			chain input { type filter hook input priority 10; iifname "s0" ct state invalid $unknown; }
		}
	END
	in_ns r sh -c 'echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose'
}

# It forgets every connection.
forget() {
	in_ns r conntrack -F >"$S/conntrack.out" 2>&1 || give_up conntrack "$(tail -n 1 "$S/conntrack.out")"
	now
	FAULT_AT=$NOW
}

# The server's host starts afresh: same addresses, no memory of any connection.  NAME is the program it ran.
reboot_server() { # reboot_server NAME
	in_ns r ip link del s0
	kill -KILL "$(pid_of "$1")"
	umount "$S/s"
	make_ns s && join s 2 || give_up reboot "could not be made"
}

# --- programs ------------------------------------------------------------------------------------------------------

pid_of() { cat "$S/$1.pid"; }

# What programs are started by: a command that executes the rest (prlimit, jump).
UNDER=()

# Run a program in a namespace, in the background: $S/NAME.out, .err, .pid, and .status when it has ended.
plain() { # plain NAMESPACE NAME [VARIABLE=VALUE...] COMMAND...
	local ns=$1 name=$2
	shift 2
	(
		# Each execs the next, so that this is the program's own process id.
		nsenter --net="$S/$ns" -- ${UNDER[@]+"${UNDER[@]}"} env "$@" </dev/null >"$S/$name.out" 2>"$S/$name.err" &
		echo $! >"$S/$name.pid"
		echo $! >>"$S/pids"
		wait $!
		echo $? >"$S/$name.status"
	) 2>/dev/null &
}

# The same under holdfast; its events go to $S/NAME.events.
held() { # held NAMESPACE NAME [VARIABLE=VALUE...] COMMAND...
	local ns=$1 name=$2
	shift 2
	: >"$S/$name.held"
	plain "$ns" "$name" LD_PRELOAD="$LIB" HOLDFAST_INTERVAL="${INTERVAL}ms" HOLDFAST_TIMEOUT="${TIMEOUT}ms" \
		HOLDFAST_REPORT="file:$S/$name.events" HOLDFAST_FORMAT=json HOLDFAST_LEVEL=info "$@"
}

server() { # server NAME PEER-ARGUMENT...
	plain s "$1" "$BIN/peer" "${@:2}"
	await 10 grep -q listening "$S/$1.out" || give_up "$1" "the server did not start"
}

ready() { # ready NAME...: until these waiters are connected
	local name
	for name; do
		await 10 grep -q '^ready' "$S/$name.out" || give_up "$name" "did not connect"
		await 10 test -s "$S/$name.pid" # the program may be quicker than the shell that notes its number
		# Or all that is alive would pass for kept alive by holdfast.  One that has ended since may have told of it.
		[ ! -e "$S/$name.held" ] || grep -qs "$LIB" "/proc/$(pid_of "$name")/maps" || [ -s "$S/$name.events" ] ||
			not_ok "$name" "$LIB is not loaded"
	done
}

ended() { [ -s "$S/$1.status" ]; }

# SIGSTOP stops a process once it gets a processor, and its threads one by one: until then they go on answering.
all_stopped() { ! grep -qv 'T (stopped)' <(grep -h '^State:' "/proc/$1"/task/*/status); }

send_signal() { # send_signal SIGNAL NAME
	local pid
	pid=$(pid_of "$2")
	kill "-$1" "$pid"
	[ "$1" != STOP ] || await 10 all_stopped "$pid" || give_up "$2" "does not stop"
}

# --- assertions ----------------------------------------------------------------------------------------------------

# Fields of the first EVENT line of NAME that has them: field NAME EVENT FIELD.
field() {
	sed -nE "/\"event\": ?\"$2\"/{s/.*\"$3\": ?\"?([^\",}]*).*/\\1/p;q}" "$S/$1.events" 2>/dev/null
}

# Whether NAME reported EVENT at all.
has_event() { grep -qE "\"event\": ?\"$2\"" "$S/$1.events"; }
no_event() { ! has_event "$@" 2>/dev/null; }

# The words of the end line of a waiter: end_line NAME STYLE, in $RESULT $ERROR $END_AT $BYTES $HASH.
end_line() {
	read -r _ _ RESULT ERROR END_AT BYTES HASH < <(grep "^end $2 " "$S/$1.out")
}

# Wait until the waiter NAME has ended in STYLE, no longer than until SINCE + MS.
await_end() { # await_end NAME STYLE SINCE MS
	now
	await $((($3 + $4 - NOW) / 1000 + 1)) grep -q "^end $2 " "$S/$1.out"
}

# The waiter must be told ERRNO in [LOW, HIGH] ms after the fault; says why not in $PROBLEM.
told_in_time() { # told_in_time NAME STYLE ERRNO LOW HIGH
	PROBLEM='' ELAPSED=never
	if ! await_end "$1" "$2" "$FAULT_AT" $(($5 + 2500)); then
		PROBLEM="still blocked $((($5 + 2500) / 1000)) s after the fault"
		return 1
	fi
	end_line "$1" "$2"
	ELAPSED=$((END_AT - FAULT_AT))
	[[ $ERROR =~ ^($3)$ ]] || PROBLEM="ended with $ERROR instead of $3 after $ELAPSED ms"
	# Where the fault took a while to set (many processes stopped), the first of it came so much earlier.
	[ $((ELAPSED + ${FAULT_SPREAD:-0})) -ge "$4" ] || PROBLEM+="${PROBLEM:+, }too early: $ELAPSED ms, at least $4 expected"
	[ $ELAPSED -le "$5" ] || PROBLEM+="${PROBLEM:+, }too late: $ELAPSED ms, at most $5 allowed"
	[ -z "$PROBLEM" ]
}

# After the fault: ETIMEDOUT in time, an event with REASON that claims no less than the timeout, an error that stays.
dies() { # dies NAME STYLE REASON [ERRNO-REGEX [MORE]]: MORE ms allowed
	local silent
	if ! told_in_time "$1" "$2" "${4:-ETIMEDOUT}" $((TIMEOUT - INTERVAL - 300)) \
		$((TIMEOUT + TICK + SLACK + ${5:-0})); then
		not_ok "$1 $2" "$PROBLEM"
		return
	fi
	silent=$(field "$1" dead silent_ms)
	if [ "$(field "$1" dead reason)" != "$3" ]; then
		not_ok "$1 $2" "no dead event with reason $3"
	elif [ "${silent:-0}" -lt $((TIMEOUT - 100)) ]; then
		not_ok "$1 $2" "told dead after ${silent:-no} ms of silence"
	elif ! await 3 grep -q '^again recv=ETIMEDOUT write=ETIMEDOUT poll=1 read=ETIMEDOUT' "$S/$1.out"; then
		not_ok "$1 $2" "the error did not stay: $(grep '^again' "$S/$1.out" || echo 'ended without a word')"
	else
		ok "$1 $2 ends" "$ELAPSED ms after the fault"
	fi
}

# The control: without holdfast the same fault leaves the program waiting.
stays_blocked() { # stays_blocked NAME SECONDS
	pause_until "$FAULT_AT" $(($2 * 1000))
	if ended "$1" || grep -q '^end' "$S/$1.out"; then
		not_ok "$1" "was not blocked: the fault is none"
	else
		ok "$1 is still blocked after $2 s"
	fi
}

# The connection lived: the waiter ended well and nobody called its peer dead.
lives() { # lives NAME STYLE SECONDS [BYTES]
	now
	if ! await_end "$1" "$2" "$NOW" $(($3 * 1000)); then
		not_ok "$1" "did not end within $3 s"
		return
	fi
	end_line "$1" "$2"
	if [ "$ERROR" != OK ]; then
		not_ok "$1" "ended with $ERROR after $BYTES bytes"
	elif [ -n "${4:-}" ] && [ "$BYTES" != "$4" ]; then
		not_ok "$1" "$BYTES bytes came instead of $4"
	elif has_event "$1" dead 2>/dev/null; then
		not_ok "$1" "was reported dead"
	else
		ok "$1 lives"
	fi
}

event() { # event NAME EVENT [FIELD VALUE]: NAME reports EVENT
	if ! await 3 has_event "$1" "$2"; then
		not_ok "$1 reports $2" "no such event"
	elif [ -n "${3:-}" ] && [ "$(field "$1" "$2" "$3")" != "$4" ]; then
		not_ok "$1 reports $2" "$3 is $(field "$1" "$2" "$3") instead of $4"
	else
		ok "$1 reports $2${3:+ $3=$4}"
	fi
}

# What the kernel holds for the socket of a waiter: kernel_options NAME.
kernel_options() {
	local pid fd
	read -r _ pid fd < <(grep '^ready' "$S/$1.out")
	"$BIN/sockopt" "$pid" "$fd"
}
