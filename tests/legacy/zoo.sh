#!/bin/bash
# One behaviour of the zoo, plain and in each mode: tests/legacy/zoo.sh PROGRAM BEHAVIOUR.  Called by zoo.test, which
# sets DIR (scratch), LIB (the library) and MODES; by hand: DIR=/tmp LIB=... MODES=probe tests/legacy/zoo.sh zoo_fd reuse
# BESIDE_FIRST, BESIDE_LAST: other libraries to preload, in the plain run too.
# Prints one TAP line for each mode and, when transcripts differ, how.
set -u
program=$1 behaviour=$2
name=$(basename "$program").$behaviour
[[ $program == */* ]] || program=$BUILD/tests/legacy/$program

# The environment of each mode, one assignment a line.  A new mode is a line here and a word in $MODES.
# "again" is the plain program a second time: shows that the transcript can be relied upon.
environment() { # environment MODE
	local sink=file:$DIR/$name.$1.json first=${BESIDE_FIRST:+$BESIDE_FIRST } last=${BESIDE_LAST:+ $BESIDE_LAST}
	# Reports to a standard error that has become a socket must not enter the stream.
	case $behaviour in low_numbers*) sink=$sink,stderr ;; esac
	case $1 in
	plain | again)
		[ -z "$first$last" ] || echo "LD_PRELOAD=$first$last"
		return
		;;
	esac
	printf '%s\n' "LD_PRELOAD=$first$LIB$last" \
		HOLDFAST_INTERVAL=100ms HOLDFAST_TIMEOUT=10s HOLDFAST_LEVEL=debug HOLDFAST_FORMAT=json \
		"HOLDFAST_REPORT=$sink"
	case $behaviour in
	redial) echo HOLDFAST_CONNECT_TIMEOUT=1s ;; # never reached, but set and taken back
	cancelled_close) echo HOLDFAST_TIMEOUT=2s ;; # looked at often
	# A call that is cancelled while it has bytes loses them in glibc before 2.41 (BZ 12683): no beat at that time.
	cancelled_read) echo HOLDFAST_INTERVAL=2s ;;
	# A signal at the very moment of a beat does not interrupt (README, "What wrap mode does not do").
	interrupted) echo HOLDFAST_INTERVAL=2s ;;
	close_and_leave) echo HOLDFAST_LINGER=15s ;; # many at once, on a machine that may have much else to do
	esac
	case $1 in
	probe) echo HOLDFAST_MODE=probe ;;
	redial) printf '%s\n' HOLDFAST_ON_DEAD=reconnect HOLDFAST_REDIAL=idle HOLDFAST_REDIAL_PROLOGUE=1K ;;
	off) echo HOLDFAST_MODE=off ;;
	wrap) echo HOLDFAST_MODE=wrap ;;
	esac
}

run() { # run MODE: transcript, standard error and status into $DIR/NAME.MODE.txt
	local base=$DIR/$name.$1 settings status
	mapfile -t settings < <(environment "$1")
	rm -f "$base.json"
	# Nothing inherited but 0 to 2, so that numbers are the same whoever calls.
	(
		for fd in /proc/self/fd/*; do
			fd=${fd##*/}
			[ "$fd" -gt 2 ] && eval "exec $fd>&-"
		done 2>/dev/null
		exec env -u LD_PRELOAD "${settings[@]}" ZOO_OUT="$base.out" ASAN_OPTIONS=detect_leaks=0 \
			timeout --kill-after=2 "${ZOO_LIMIT:-20}" "$program" "$behaviour"
	) >"$base.txt" 2>"$base.err" </dev/null
	status=$?
	[ -f "$base.out" ] && cat "$base.out" >>"$base.txt" && rm "$base.out"
	# What a program without sockets on 0 to 2 finds on standard error counts too.
	case $behaviour in low_numbers*) ;; *) sed 's/^/stderr: /' "$base.err" >>"$base.txt" ;; esac
	echo "status $status" >>"$base.txt"
	return $status
}

# Differences that are known and told as SKIP, never as equal: PROGRAM.BEHAVIOUR.MODE) why.
known() { # known MODE
	case $name.$1 in
	zoo_option.keepalive_shared.probe) echo "settings made by another process on a shared socket are not seen" ;;
	zoo_option.keepalive_shared.wrap) echo "settings made by another process on a shared socket are not seen" ;;
	# By design: an urgent byte has no place in frames.
	zoo_data.urgent.wrap) echo "MSG_OOB is refused" ;;
	*) return 1 ;;
	esac
}

run plain
status=$?
if [ ! -s "$DIR/$name.plain.txt" ] || [ $status -ge 124 ] || grep -q '^GIVE UP' "$DIR/$name.plain.txt"; then
	sed 's/^/# /' "$DIR/$name.plain.txt"
	echo "not ok $name: plain run failed, status $status"
	exit
fi
for mode in $MODES; do
	run "$mode"
	if difference=$(diff -U2 --label plain --label "$mode" "$DIR/$name.plain.txt" "$DIR/$name.$mode.txt"); then
		printf 'ok %s %s%s\n' "$name" "$mode" "${LABEL:+, $LABEL}"
	elif why=$(known "$mode"); then
		printf 'ok %s %s # SKIP known difference: %s\n' "$name" "$mode" "$why"
	else
		printf '%s\nnot ok %s %s%s: transcripts differ\n' "$(head -n 40 <<<"$difference" | sed 's/^/# /')" \
			"$name" "$mode" "${LABEL:+, $LABEL}"
	fi
done
