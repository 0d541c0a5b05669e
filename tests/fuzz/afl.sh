#!/bin/sh
# Run fuzz targets under AFL++: afl.sh TARGET...  One line for each; exit status 1 if one crashed or hung.
# BUILD, FUZZ_SECONDS as in make fuzz-afl.  What is found stays in $BUILD/fuzz/afl/found, and is begun with next time.
set -u
seconds=${FUZZ_SECONDS:-60}
# As it is on a machine that others use too: no processor of its own, no frequency or core pattern set.
export AFL_NO_UI=1 AFL_NO_AFFINITY=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_AUTORESUME=1
export AFL_QUIET=1 ASAN_OPTIONS=abort_on_error=1:symbolize=0:detect_leaks=0
bad=0

stat() { # stat NAME FILE
	sed -n "s/^$1 *: //p" "$2"
}

for name in "$@"; do
	found=$BUILD/fuzz/afl/found/$name
	mkdir -p "$found"
	if ! afl-fuzz -V "$seconds" -t 5000 -m none -i "tests/fuzz/corpus/$name" -o "$found" -- \
		"$BUILD/fuzz/afl/tests/fuzz/$name" >"$found.log" 2>&1; then
		tail -n 20 "$found.log"
		echo "$name: afl-fuzz failed"
		bad=1
		continue
	fi
	stats=$found/default/fuzzer_stats
	crashes=$(stat saved_crashes "$stats") hangs=$(stat saved_hangs "$stats")
	echo "$name: $(stat execs_done "$stats") runs in $(stat run_time "$stats") s," \
		"$(stat corpus_count "$stats") inputs, $crashes crashes, $hangs hangs"
	if [ "$crashes" -ne 0 ] || [ "$hangs" -ne 0 ]; then
		echo "$name: see $found/default/crashes and hangs"
		bad=1
	fi
done
exit $bad
