"""Checks that recorded series, their table and the rules are consistent; called by `lint.py`."""

import re
from pathlib import Path

import series

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded"
# Labels that Prometheus adds.
TARGET_LABELS = {"job", "instance"}
RECORD_HINT = "record it again: deploy/observability/record/run"


def situations():
    """The situations that can be recorded, in order."""
    return re.findall(r"^@situation\(.*\)\nasync def (\w+)\(run\):", (HERE / "record/situations.py").read_text(), re.M)


def check_table(expect, alerts):
    """Checks that each alert fires in a recording, or is listed as firing in none."""
    text = (RECORDED / "SITUATIONS.md").read_text()
    recorded = set(re.findall(r"^\| (TenantAuth\w+) \|", text, re.M))
    synthetic = set(re.findall(r"^\| synthetic: (TenantAuth\w+) \|", text, re.M))
    expect(
        recorded | synthetic == alerts,
        f"SITUATIONS.md: neither recorded nor synthetic, or not an alert: {sorted((recorded | synthetic) ^ alerts)}",
    )
    expect(
        not recorded & synthetic, f"SITUATIONS.md: recorded, but listed as synthetic: {sorted(recorded & synthetic)}"
    )
    described = re.findall(r"^## (\w+)$", text, re.M)
    expect(
        described == situations(), f"SITUATIONS.md and record/situations.py do not have the same sections: {described}"
    )
    recordings = {path.stem for path in RECORDED.glob("*.series")}
    not_recorded = set(re.findall(r"^## (\w+)\n\nNot recorded", text, re.M))
    expect(
        recordings | not_recorded == set(situations()),
        "recorded/: no recording and not listed as not recorded, or not a situation:"
        f" {sorted((recordings | not_recorded) ^ set(situations()))}",
    )
    expect(
        not recordings & not_recorded,
        f"SITUATIONS.md: recorded, but listed as not recorded: {sorted(recordings & not_recorded)}",
    )


def check_series(expect, used, known, scraped):
    """
    Checks that no recording is out of date.

    used: the rules' selectors, metric to lists of (label, operator, value). known: metric to its labels. scraped: the
    names in a current scrape and those that appear with their first count; empty if there is no scrape.
    """
    recorded_values = {}
    for path in sorted(RECORDED.glob("*.series")):
        names = set()
        for name in series.read(path).series:
            metric, labels = series.labels(name)
            names.add(metric)
            for label, value in labels.items():
                recorded_values.setdefault((metric, label), set()).add(value)
            expected_labels = known.get(metric, set() if metric == "up" else None)
            expect(
                expected_labels is not None,
                f"{path.name}: there is no metric {metric} any more; {RECORD_HINT} {path.stem}",
            )
            expect(
                expected_labels is None or set(labels) - TARGET_LABELS == expected_labels,
                f"{path.name}: {metric} has other labels now; {RECORD_HINT} {path.stem}",
            )
        # A series that a service reports and no recording has belongs to a newer alert. Without a scrape this is
        # unknown.
        missing = sorted(set(used) - names - scraped) if scraped else []
        expect(
            not missing, f"{path.name}: the rules use {', '.join(missing)}, which it lacks; {RECORD_HINT} {path.stem}"
        )
    # Not an error: values of other situations are in no recording. But a renamed value shows here.
    for metric, matchers in used.items():
        for label, operator, value in matchers:
            if (
                operator == "="
                and value
                and label not in TARGET_LABELS | {"grpc_code"}
                and value not in recorded_values.get((metric, label), ())
            ):
                print(f"note: no recording has {metric} with {label}={value}")


def check(expect, alerts, used, known, scraped):
    check_table(expect, alerts)
    check_series(expect, used, known, scraped)
