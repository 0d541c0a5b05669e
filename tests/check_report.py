#!/usr/bin/python3
"""check_report.py FILE...: every line is one event of tests/report.schema.json, fields in the schema's order.

Knows the few schema words that file uses, so that the test needs nothing but python3.
"""
import json
import os
import re
import sys

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "report.schema.json")) as f:
    SCHEMA = json.load(f)
PROPERTIES = SCHEMA["properties"]
TYPES = {"string": str, "integer": int}
KNOWN = {"type", "enum", "pattern", "minimum", "maxLength", "description"}


def no_duplicates(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a field twice")
    return dict(pairs)


def check(line):
    event = json.loads(line, object_pairs_hook=no_duplicates)
    for name in SCHEMA["required"]:
        if name not in event:
            raise ValueError(f"no {name}")
    order = list(PROPERTIES)
    if [n for n in order if n in event] != list(event):
        raise ValueError("unknown field, or not in order: " + " ".join(event))
    for name, value in event.items():
        want = PROPERTIES[name]
        assert set(want) <= KNOWN, f"schema word not known here: {want}"
        good = (type(value) is TYPES[want["type"]]
                and value in want.get("enum", [value])
                and re.search(want.get("pattern", ""), str(value))
                and (type(value) is str or value >= want["minimum"])
                and len(str(value)) <= want.get("maxLength", 100))
        if not good:
            raise ValueError(f"{name}: {value!r} does not fit {want}")


bad = lines = 0
for path in sys.argv[1:]:
    with open(path, encoding="utf-8", errors="strict", newline="\n") as f:
        for line in f:
            lines += 1
            try:
                if not line.endswith("}\n"):
                    raise ValueError("not a whole line")
                check(line)
            except ValueError as e:
                bad += 1
                print(f"{path}:{lines}: {e}: {line.rstrip()}")
print(f"{lines} lines, {bad} bad")
sys.exit(1 if bad or not lines else 0)
