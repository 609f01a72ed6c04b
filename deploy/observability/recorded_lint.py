"""Checks that recorded series, their table and the rules are consistent; called by `lint.py`."""

import re
from pathlib import Path

import series

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded"
# Labels that Prometheus adds.
ADDED = {"job", "instance"}
AGAIN = "record it again: deploy/observability/record/run"


def situations():
    """The situations that can be recorded, in order."""
    return re.findall(r"^@situation\(.*\)\nasync def (\w+)\(stage\):", (HERE / "record/situations.py").read_text(), re.M)


def check_table(hold, alerts):
    """Checks that each alert fires in a recording, or is listed as firing in none."""
    text = (RECORDED / "SITUATIONS.md").read_text()
    provoked = set(re.findall(r"^\| (TenantAuth\w+) \|", text, re.M))
    invented = set(re.findall(r"^\| invented: (TenantAuth\w+) \|", text, re.M))
    hold(provoked | invented == alerts, f"SITUATIONS.md: neither recorded nor invented, or not an alert: {sorted((provoked | invented) ^ alerts)}")
    hold(not provoked & invented, f"SITUATIONS.md: recorded, but listed as invented: {sorted(provoked & invented)}")
    described = re.findall(r"^## (\w+)$", text, re.M)
    hold(described == situations(), f"SITUATIONS.md and record/situations.py do not have the same sections: {described}")
    there = {path.stem for path in RECORDED.glob("*.series")}
    bare = set(re.findall(r"^## (\w+)\n\nNot recorded", text, re.M))
    hold(there | bare == set(situations()), f"recorded/: no recording and not listed as not recorded, or not a situation: {sorted((there | bare) ^ set(situations()))}")
    hold(not there & bare, f"SITUATIONS.md: recorded, but listed as not recorded: {sorted(there & bare)}")


def check_series(hold, used, known, scraped):
    """
    Checks that no recording is out of date.

    used: the rules' selectors, metric to lists of (label, operator, value). known: metric to its labels. scraped: the names
    in a current scrape, empty if there is none.
    """
    told = {}
    for path in sorted(RECORDED.glob("*.series")):
        names = set()
        for name in series.read(path).series:
            metric, labels = series.labels(name)
            names.add(metric)
            for label, value in labels.items():
                told.setdefault((metric, label), set()).add(value)
            wanted = known.get(metric, set() if metric == "up" else None)
            hold(wanted is not None, f"{path.name}: there is no metric {metric} any more; {AGAIN} {path.stem}")
            hold(wanted is None or set(labels) - ADDED == wanted, f"{path.name}: {metric} has other labels now; {AGAIN} {path.stem}")
        # A series that a service reports and no recording has belongs to a newer alert. Without a scrape this is unknown.
        missing = sorted(set(used) - names - scraped) if scraped else []
        hold(not missing, f"{path.name}: the rules use {', '.join(missing)}, which it lacks; {AGAIN} {path.stem}")
    # Not an error: values of other situations are in no recording. But a renamed value shows here.
    for metric, matchers in used.items():
        for label, operator, value in matchers:
            if operator == "=" and value and label not in ADDED | {"grpc_code"} and value not in told.get((metric, label), ()):
                print(f"note: no recording has {metric} with {label}={value}")


def check(hold, alerts, used, known, scraped):
    check_table(hold, alerts)
    check_series(hold, used, known, scraped)
