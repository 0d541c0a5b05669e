#!/bin/sh
# How much of the fuzzed sources the corpora reach: coverage.sh [DIRECTORY...], each with a directory for each target.
# Built by make fuzz-coverage; BUILD, and LLVM, a prefix of llvm-cov and llvm-profdata.
set -eu
built=$BUILD/fuzz/coverage
objects=
rm -f "$built"/*.profraw
for target in "$built"/tests/fuzz/fuzz_*; do
	[ -x "$target" ] || continue
	name=${target##*/}
	set -- tests/fuzz/corpus "$@"
	for corpus in "$@"; do
		[ ! -d "$corpus/$name" ] || LLVM_PROFILE_FILE=$built/$name-%p.profraw "$target" "$corpus/$name" >/dev/null
	done
	shift
	objects="$objects ${objects:+-object} $target"
done
"${LLVM}profdata" merge -sparse -o "$built/all.profdata" "$built"/*.profraw
# What the targets are there for, by what it reads; the rest of the library comes along.
groups='
settings: shim/config.c shim/config_lists.c shim/config_parse.c shim/rules.c
wire: shim/core/crc32c.c shim/core/frame.c shim/core/hello.c shim/core/resume.c shim/core/rx.c shim/core/session.c
	shim/core/tx.c
arena: shim/state/arena.c shim/state/family.c shim/state/hold.c shim/state/view.c
connections: shim/io/resume.c shim/io/resume_dial.c shim/io/resume_share.c shim/io/resume_tend.c shim/io/turn.c
	shim/io/wrap.c shim/io/wrap_close.c shim/io/wrap_hello.c shim/io/wrap_judge.c shim/io/wrap_look.c
	shim/io/wrap_news.c shim/io/wrap_queue.c shim/io/wrap_quick.c shim/io/wrap_read.c shim/io/wrap_tend.c
	shim/io/wrap_turn.c shim/io/wrap_write.c shim/watch/publish.c shim/watch/tell.c
views: tools/arena_read.c tools/explain_text.c tools/explain_timer.c tools/metrics_text.c tools/table.c
	tools/view_json.c tools/view_state.c tools/view_text.c
files: tools/elf_file.c tools/event_line.c
'
# shellcheck disable=SC2086 # a list of words
"${LLVM}cov" report $objects -instr-profile="$built/all.profdata" >"$built/report"
# Columns of its report: file, then total, missed and a percentage of regions, functions, lines and branches.
awk -v groups="$groups" '
function show(name, lines, missed, branches, untaken) {
	printf "%-24s %5d lines %6.1f %%   %5d branches %6.1f %%\n", name, lines, 100 - missed * 100 / lines,
		branches, branches ? 100 - untaken * 100 / branches : 100
}
function add(group) {
	lines[group] += $8; missed[group] += $9; branches[group] += $11; untaken[group] += $12
}
BEGIN {
	count = split(groups, words)
	for (i = 1; i <= count; i++)
		if (words[i] ~ /:$/) names[++ngroups] = words[i]
		else group[words[i]] = names[ngroups]
	names[++ngroups] = "all:"
}
$1 in group {
	show($1, $8, $9, $11, $12)
	add(group[$1])
	add("all:")
}
END {
	print ""
	for (i = 1; i <= ngroups; i++)
		show(names[i], lines[names[i]], missed[names[i]], branches[names[i]], untaken[names[i]])
}' "$built/report"
