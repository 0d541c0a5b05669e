#!/usr/bin/python3
"""check_metrics.py FILE [NAME{LABELS}=VALUE...]: FILE is well-formed, by Prometheus's own parser, and has these samples.

FILE ending in .prom is in the older format, others are OpenMetrics.  --dashboard JSON: every name it uses is in FILE.
--programs-most N: no more values of the label "program" than that.
"""
import json
import re
import sys

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
    from prometheus_client.parser import text_string_to_metric_families as parse_old
except ImportError:
    print("python3-prometheus-client is not installed")
    sys.exit(77)

args = sys.argv[1:]
path, wanted, dashboard, most = None, [], None, None
while args:
    arg = args.pop(0)
    if arg == "--dashboard":
        dashboard = args.pop(0)
    elif arg == "--programs-most":
        most = int(args.pop(0))
    elif path is None:
        path = arg
    else:
        wanted.append(arg)

with open(path, encoding="utf-8", newline="") as f:
    text = f.read()
families = list((parse_old if path.endswith(".prom") else parse_open)(text))
samples = [s for family in families for s in family.samples]
assert len(families) >= 15, len(families)
assert all(family.documentation for family in families)
assert all(family.name.startswith("holdfast_") for family in families)
assert "unknown" not in {family.type for family in families}, [f.name for f in families if f.type == "unknown"]
bad = []
for family in families:
    if family.type == "histogram":
        buckets = [s for s in family.samples if s.name.endswith("_bucket")]
        counts = [s.value for s in buckets]
        total = [s.value for s in family.samples if s.name.endswith("_count")][0]
        if counts != sorted(counts) or counts[-1] != total or buckets[-1].labels["le"] != "+Inf":
            bad.append(f"{family.name}: {counts} {total}")
for want in wanted:
    match = re.fullmatch(r"(\w+)(?:\{(.*)\})?=(.*)", want)
    labels = dict(re.findall(r"(\w+)=([^,]*)", match[2] or ""))
    found = [s.value for s in samples if s.name == match[1] and labels.items() <= s.labels.items()]
    if sum(found) != float(match[3]) or not found:
        bad.append(f"{want}: found {found}")
if most is not None:
    programs = {s.labels["program"] for s in samples if "program" in s.labels}
    if len(programs) > most or "other" not in programs:
        bad.append(f"{len(programs)} programs")
if dashboard:
    names = {s.name for s in samples}
    with open(dashboard, encoding="utf-8") as f:
        board = json.load(f)
    expressions = [t["expr"] for p in board["panels"] for t in p["targets"]]
    expressions += [v["definition"] for v in board["templating"]["list"] if "definition" in v]
    used = {n for e in expressions for n in re.findall(r"holdfast_\w+", e)}
    bad += [f"dashboard: no {name}" for name in sorted(used - names)]
    assert len(used) > 10 and len({p["id"] for p in board["panels"]}) == len(board["panels"])
print("\n".join(bad))
sys.exit(1 if bad else 0)
