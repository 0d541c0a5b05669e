# shellcheck shell=bash
# Sourced by those who start many programs side by side.
#
# What is timed begins with programs that start, and a heap of those makes a small machine stand still for seconds: then
# nothing that is measured there means anything.

QUIET_LEFT=${QUIET_LEFT:-25} # seconds that may be spent on waiting for it in all: a busy machine may stay busy

# Until the machine has a processor to spare, or SECONDS have passed (proc(5), loadavg: who runs or wants to, us
# included).
when_quiet() { # when_quiet SECONDS
	local from=$SECONDS running
	while [ $((SECONDS - from)) -lt "$1" ] && [ $((SECONDS - from)) -lt "$QUIET_LEFT" ]; do
		read -r _ _ _ running _ </proc/loadavg
		[ "${running%/*}" -gt "$(nproc)" ] || break
		sleep 0.0$((RANDOM % 60 + 30))
	done
	QUIET_LEFT=$((QUIET_LEFT - (SECONDS - from)))
}
