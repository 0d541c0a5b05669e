#!/usr/bin/env python3
"""Draw what tests/lab/matrix found: a table in Markdown, and the same as a picture.

usage: matrix.py CELLS DIRECTORY TIMEOUT-MS [README]

README has the table between two lines of comment, and is given the new one.

CELLS has lines "FAULT MODE STYLE OUTCOME MS DETAIL".  Styles of one fault and mode share a cell: from the first to the
last of them; what differs between them is listed.
"""
import sys
from html import escape

FAULTS = {
    "none": "nothing (a peer that says nothing)",
    "vanish": "the path drops everything",
    "to-server": "the path drops what the client sends",
    "to-client": "the path drops what the server sends",
    "link": "the client's interface goes down",
    "cable": "the client's cable is pulled",
    "reject": "a router says “host unreachable”",
    "reset": "a router sends resets",
    "forget": "a NAT router forgets the connection",
    "forget-reset": "the same, and it answers with resets",
    "proxy": "the path drops everything behind a proxy that ends TCP",
    "stop": "the server's program is stopped",
    "kill": "the server's program is killed",
    "pause": "the client's program itself is stopped",
    "bad": "a bad path: 80–120 ms, 3 % loss, reordered, doubled, damaged",
    "clock": "the client's clock is set, its machine slept an hour",
}
# Of these nobody should be told anything.
QUIET = ("none", "bad", "clock")
MODES = ("plain", "probe", "wrap", "reconnect")
BEGIN, END = "<!-- matrix: make matrix puts it here -->\n", "<!-- end of matrix -->\n"
COLOURS = {"waits": "#f6d5d5", "ended": "#d5e6f6", "resumed": "#d8f0d8", "died": "#f0a0a0"}


def seconds(times):
    low, high = max(0, min(times)) / 1000, max(0, *times) / 1000
    return f"{low:.1f} s" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f}–{high:.1f} s"


def told(detail):
    error, _, reason = detail.partition(",")
    error = {"OK": "end of file"}.get(error, error)
    return f"{error} ({reason})" if reason else error


def text(cells, quiet):
    """What the styles of one fault and mode were told; QUIET: nothing was wrong."""
    parts = []
    for outcome in ("ended", "resumed", "waits", "died"):
        those = [c for c in cells if c[1] == outcome]
        if not those:
            continue
        some = "" if len(those) == len(cells) else f"{len(those)} of {len(cells)}: "
        times = [int(c[2]) for c in those if c[2].lstrip("-").isdigit()]
        if outcome == "ended":
            parts.append(f"{some}{', '.join(sorted({told(c[3]) for c in those}))} after {seconds(times)}")
        elif outcome == "resumed":
            healed = [int(c[3]) for c in those]
            when = f"; goes on {seconds(healed)} after the cure" if min(healed) > 0 else "; goes on at once"
            parts.append(f"{some}broken after {seconds(times)}{when}")
        elif outcome == "waits":
            parts.append(f"{some}{'waits' if quiet else 'still waits'}")
        else:
            parts.append(f"{some}the program ended: {', '.join(sorted({c[3] for c in those}))}")
    return "; ".join(parts) or "–"


def colour(cells, quiet):
    outcomes = {c[1] for c in cells}
    if quiet and outcomes == {"waits"}:
        return COLOURS["resumed"]
    return COLOURS[outcomes.pop()] if len(outcomes) == 1 else "#f4f0c8"


def wrapped(words, width):
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def svg(table, timeout):
    left, column, line, width = 210, 190, 15, 30
    rows, y, height = [], 40, 0
    for fault, cells in table:
        texts = [wrapped(text(c, fault in QUIET), width) for c in cells]
        name = wrapped(FAULTS[fault], 32)
        height = line * max(len(name), *(len(t) for t in texts)) + 10
        for i, lines in enumerate([name, *texts]):
            x = 0 if i == 0 else left + (i - 1) * column
            if i > 0:
                fill = colour(cells[i - 1], fault in QUIET)
                rows.append(f'<rect x="{x}" y="{y}" width="{column - 4}" height="{height - 4}" fill="{fill}"/>')
            for k, part in enumerate(lines):
                rows.append(f'<text x="{x + 6}" y="{y + 15 + k * line}">{escape(part)}</text>')
        y += height
    head = "".join(f'<text x="{left + i * column + 6}" y="25" font-weight="bold">{m}</text>' for i, m in enumerate(MODES))
    whole = left + column * len(MODES)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{y + 4}" viewBox="0 0 {whole} {y + 4}" '
        f'font-family="sans-serif" font-size="11.5" fill="#222">\n<title>What a program that waits is told, by fault '
        f"and mode; timeout {timeout / 1000:g} s</title>\n"
        f'<rect width="{whole}" height="{y + 4}" fill="#ffffff"/>\n{head}\n' + "\n".join(rows) + "\n</svg>\n"
    )


def main():
    cells, directory, timeout = sys.argv[1], sys.argv[2], int(sys.argv[3])
    found = {}
    with open(cells, encoding="utf-8") as lines:
        for row in lines:
            fault, mode, *rest = row.split()
            found.setdefault((fault, mode), []).append(rest)
    table = [(f, [found.get((f, m), []) for m in MODES]) for f in FAULTS if any((f, m) in found for m in MODES)]
    markdown = "| fault | " + " | ".join(MODES) + " |\n" + "|---" * (len(MODES) + 1) + "|\n"
    for fault, row in table:
        markdown += f"| {FAULTS[fault]} | " + " | ".join(text(c, fault in QUIET) for c in row) + " |\n"
    with open(f"{directory}/matrix.md", "w", encoding="utf-8") as out:
        out.write(markdown)
    if len(sys.argv) > 4:
        with open(sys.argv[4], encoding="utf-8") as readme:
            before, rest = readme.read().split(BEGIN)
        with open(sys.argv[4], "w", encoding="utf-8") as readme:
            readme.write(before + BEGIN + markdown + END + rest.split(END)[1])
    with open(f"{directory}/matrix.svg", "w", encoding="utf-8") as out:
        out.write(svg(table, timeout))


main()
