# Draw a recording of tools/picture/record.sh as SVG: awk -f draw.awk FILE >PICTURE
#
# A terminal with a pane for each client, its lines in the order in which they appeared, with the seconds since the
# fault in a margin.  They appear one by one at the times of the recording, over and over, where the viewer can animate by CSS
# and its user has not asked for less motion; everywhere else all of them stand there.  No script.  The picture has a
# background of its own, so it looks the same on light and dark pages.
#
# Any awk will do.  Those that count bytes would draw text beyond ASCII too wide: the recording has none (LC_ALL=C).

BEGIN {
	FS = "\t"
	columns = 96 # of text, beside the margin
	size = 13
	advance = 7.8 # of a character: fonts differ, so each line is told its length
	leading = 18
	margin = 74
	hold = 4000 # ms for which the finished picture stands
}

function escaped(text) {
	gsub(/[[:cntrl:]]/, " ", text)
	gsub(/&/, "\\&amp;", text)
	gsub(/</, "\\&lt;", text)
	gsub(/>/, "\\&gt;", text)
	gsub(/"/, "\\&quot;", text)
	return text
}

function seconds(ms) {
	return sprintf("%s%.1f s", ms < 0 ? "-" : ms > 0 ? "+" : "", (ms < 0 ? -ms : ms) / 1000)
}

# Text at a column of the row that is being drawn, from MS on.
function put(row, class, column, text, ms) {
	if (text == "")
		return
	if (!(ms in number)) {
		number[ms] = ++moment
		moments[moment] = ms
	}
	body[++parts] = sprintf("<text class=\"%s m%d\" x=\"%.1f\" y=\"%d\" textLength=\"%.1f\">%s</text>", \
		class, number[ms], margin + column * advance, row * leading, length(text) * advance, escaped(text))
}

# The time in the margin, right-aligned.
function time(row, ms,    text) {
	text = seconds(ms)
	put(row, "time", -2 - length(text), text, ms)
}

# One thing that was seen, on as many rows as it takes, broken at blanks.
function lines(row, class, text, ms,    at, part) {
	time(row, ms)
	while (length(text) > columns) {
		for (at = columns; at > columns / 2 && substr(text, at + 1, 1) != " "; at--)
			;
		part = substr(text, 1, at)
		text = substr(text, at + 1)
		sub(/^ /, "", text)
		put(row++, class, 0, part, ms)
	}
	put(row++, class, 0, text, ms)
	return row
}

NF >= 4 {
	text = $4
	for (i = 5; i <= NF; i++)
		text = text " " $i
	if (!n++)
		first = $1
	last = $1 + 0
	if (!($2 in count))
		panes[++pane] = $2
	count[$2]++
	at[$2, count[$2]] = $1 + 0
	kind[$2, count[$2]] = $3
	what[$2, count[$2]] = text
}

function draw_pane(p,    i, column, prompt, ms, text, waits) {
	for (i = 1; i <= count[p]; i++) {
		ms = at[p, i]
		text = what[p, i]
		if (kind[p, i] == "title") {
			body[++parts] = sprintf("<text class=\"title\" x=\"%.1f\" y=\"%d\">%s</text>", \
				margin, row++ * leading, escaped(text))
		} else if (kind[p, i] == "type") {
			# The prompt in a colour of its own, before a command of one row.
			prompt = index(text, "$ ")
			if (prompt > 0 && length(text) <= columns) {
				put(row, "prompt", 0, substr(text, 1, prompt), ms)
				put(row, "type", prompt + 1, substr(text, prompt + 2), ms)
				time(row++, ms)
			} else
				row = lines(row, "type", text, ms)
		} else if (kind[p, i] == "out")
			row = lines(row, text ~ /: dead: / ? "dead" : "out", text, ms)
		else if (kind[p, i] == "fault")
			row = lines(row, "fault", "-- " text, ms)
	}
	# What became of the client, on one row that grows.
	column = 0
	for (i = 1; i <= count[p]; i++) {
		ms = at[p, i]
		text = what[p, i]
		if (kind[p, i] == "wait") {
			if (!waits++) {
				put(row, "wait", 0, "waiting", ms)
				column = 8
			}
			put(row, "wait", column, text, ms)
			column += length(text) + 1
		} else if (kind[p, i] == "end") {
			put(row, "end", column, (waits ? "- " : "") text, ms)
			waits = 0
			column = -1
		}
	}
	if (waits)
		put(row, "wait", column, "... and so for ever", last)
	row++
}

END {
	if (!n) {
		print "draw.awk: nothing was recorded" >"/dev/stderr"
		exit 1
	}
	row = 2
	for (i = 1; i <= pane; i++) {
		if (i > 1)
			rules[i] = row * leading - leading / 2
		row = i > 1 ? row + 1 : row
		draw_pane(panes[i])
	}
	width = margin + columns * advance + 22
	height = row * leading
	total = last - first + hold

	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", \
		width, height, width, height
	print "<!-- Made by tools/picture/draw.awk from a recording: make picture -->"
	print "<title>A dead connection, without and with holdfast</title>"
	print "<style>"
	printf "text { font: %dpx ui-monospace, \"DejaVu Sans Mono\", Menlo, Consolas, monospace; white-space: pre }\n", size
	print ".title { fill: #ffffff; font-weight: bold }"
	print ".time { fill: #8b949e }"
	print ".prompt { fill: #7ee787 }"
	print ".type { fill: #e6edf3 }"
	print ".out { fill: #c9d1d9 }"
	print ".fault { fill: #f0b72f }"
	print ".dead { fill: #ff9a92 }"
	print ".wait { fill: #8b949e }"
	print ".end { fill: #7ee787; font-weight: bold }"
	print "@media (prefers-reduced-motion: no-preference) {"
	for (i = 1; i <= moment; i++) {
		from = (moments[i] - first) * 100 / total
		printf ".m%d { animation: a%d %.1fs step-end infinite }\n", i, i, total / 1000
		if (from > 0)
			printf "@keyframes a%d { 0%% { opacity: 0 } %.2f%% { opacity: 1 } }\n", i, from
	}
	print "}"
	print "</style>"
	printf "<rect x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#0d1117\" stroke=\"#6e7681\"/>\n", \
		width - 1, height - 1
	for (i = 2; i <= pane; i++)
		printf "<path d=\"M%d %.1fH%d\" stroke=\"#30363d\"/>\n", margin, rules[i], width - 22
	for (i = 1; i <= parts; i++)
		print body[i]
	print "</svg>"
}
