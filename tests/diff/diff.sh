#!/bin/bash
# One script in every combination: tests/diff/diff.sh PROGRAM SCRIPT.  Called by diff.test, which sets DIR (scratch) and
# LIB; by hand: DIR=/tmp LIB=$PWD/build/libholdfast.so BUILD=build tests/diff/diff.sh diff_read peek
# COMBINATIONS="probe-probe" and FAMILIES="4" make it fewer.
# Prints one TAP line for each combination and, when the transcript differs from that of plain-plain, how.
set -u
program=$1 script=$2
[[ $program == */* ]] || program=$BUILD/tests/diff/$program
name=$(basename "$program").$script
combinations="probe-probe wrap-wrap wrap-plain plain-wrap"
case $name in # what reconnecting must not take for a broken path
diff_mixed.left_* | diff_beside.* | diff_connect.disconnect) combinations+=" armed-armed" ;;
esac
combinations=${COMBINATIONS:-$combinations}
families=${FAMILIES:-4 6}

# Differences by design, told as SKIP and never as equal: PROGRAM.SCRIPT.COMBINATION) and where DESIGN.md says so.
known() { # known COMBINATION
	case $name.$1 in
	# An urgent byte, and one that stays the program's until it is sent, have no place in frames (README, "Wrap mode").
	diff_option.urgent.wrap-wrap) echo "MSG_OOB is refused" ;;
	diff_option.zero_copy.wrap-wrap) echo "SO_ZEROCOPY is refused" ;;
	# A good piece before a bad one is read and told; the kernel, if both would be filled from one segment, takes nothing.
	diff_read.wrong_second.wrap-wrap) echo "a short read where the second piece of a vector is bad memory" ;;
	# Small writes are copied behind their header, the quickest way there is (KERNEL.md), by the program's own thread.
	diff_write.wrong_page.wrap-wrap) echo "a small write from a page that may not be read ends the program" ;;
	*) return 1 ;;
	esac
}

play() { # play COMBINATION FAMILY: the merged transcript into $DIR/NAME.COMBINATION.FAMILY.txt
	local base=$DIR/$name.$1.$2 status
	rm -f "$base".*
	"$program" "$script" "${1%-*}" "${1#*-}" "$2" "$base" 2>"$base.err" </dev/null
	status=$?
	{
		cat "$base.client" "$base.server" | LC_ALL=C sort -s -k1,2
		[ $status -eq 0 ] || cat "$base.err"
	} >"$base.txt"
	return $status
}

for family in $families; do
	for combination in plain-plain $combinations; do
		play "$combination" "$family" &
	done
done
wait
compare() {
	local family combination native this label difference why
	for family in $families; do
		native=$DIR/$name.plain-plain.$family
		if [ -s "$native.err" ] || ! grep -q ' end$' "$native.txt"; then
			sed 's/^/# /' "$native.txt" "$native.cmocka"
			echo "not ok $name IPv$family: the plain run failed"
			continue
		fi
		for combination in $combinations; do
			this=$DIR/$name.$combination.$family
			label="$name $combination IPv$family${LABEL:+, $LABEL}"
			if difference=$(diff -U3 --label plain-plain --label "$combination" "$native.txt" "$this.txt"); then
				echo "ok $label"
			elif why=$(known "$combination"); then
				echo "ok $label # SKIP known difference: $why"
			else
				head -n 60 <<<"$difference" | sed 's/^/# /'
				grep -v '^\[\|^TAP\|^1\.\.' "$this.cmocka" | head -n 10 | sed 's/^/#   /'
				echo "not ok $label: the transcripts differ"
			fi
		done
	done
}
verdict=$(compare) # in one piece, for others write too
printf '%s\n' "$verdict"
