#!/usr/bin/python3
"""check_view.py [--explained] [--whole] FILE...: every line is one connection of tests/view.schema.json.

--explained: with the fields of explain.  --whole: of a connection that arena_writer churns, all numbers of one writing
must agree.  Knows the few schema words that file uses, so that the test needs nothing but python3.
"""
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "..", "view.schema.json"), encoding="utf-8") as f:
    SCHEMA = json.load(f)
TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
KNOWN = {"$schema", "title", "description", "type", "enum", "pattern", "minimum", "maxLength", "maxItems", "items",
         "properties", "required", "additionalProperties"}
EXPLAINED = {"why", "evidence", "timers", "next"}
WHOLE = ["sent", "received", "beats_sent", "beats_received"]


def no_duplicates(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a field twice")
    return dict(pairs)


def check(value, want, where):
    assert set(want) <= KNOWN, f"schema word not known here: {want}"
    good = (type(value) is TYPES[want["type"]]
            and value in want.get("enum", [value])
            and re.search(want.get("pattern", ""), str(value))
            and ("minimum" not in want or value >= want["minimum"])
            and len(str(value)) <= want.get("maxLength", 10000))
    if not good:
        raise ValueError(f"{where}: {value!r} does not fit")
    if type(value) is list:
        if len(value) > want["maxItems"]:
            raise ValueError(f"{where}: too long")
        for item in value:
            check(item, want["items"], where)
    if type(value) is dict:
        for name in want["required"]:
            if name not in value:
                raise ValueError(f"{where}: no {name}")
        for name, item in value.items():
            if name not in want["properties"]:
                raise ValueError(f"{where}: unknown field {name}")
            check(item, want["properties"][name], name)


explained = "--explained" in sys.argv
whole = "--whole" in sys.argv
bad = lines = torn = 0
for path in [a for a in sys.argv[1:] if not a.startswith("--")]:
    with open(path, encoding="utf-8", errors="strict", newline="\n") as f:
        for line in f:
            lines += 1
            try:
                if not line.endswith("}\n"):
                    raise ValueError("not a whole line")
                view = json.loads(line, object_pairs_hook=no_duplicates)
                check(view, SCHEMA, "line")
                if explained != (EXPLAINED <= set(view)):
                    raise ValueError("fields of explain")
                torn += "torn" in view
                if whole and "torn" not in view and len({view.get(name) for name in WHOLE}) != 1:
                    raise ValueError("two writings mixed")
            except ValueError as e:
                bad += 1
                print(f"{path}:{lines}: {e}: {line.rstrip()[:400]}")
print(f"{lines} lines, {bad} bad, {torn} torn")
sys.exit(1 if bad or not lines or (whole and torn * 2 > lines) else 0)
