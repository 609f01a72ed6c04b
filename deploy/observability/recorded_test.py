"""Replays recorded series to the rules, and compares the firing alerts with recorded/SITUATIONS.md, minute by minute.

    python3 recorded_test.py --promtool PATH                       every situation
    python3 recorded_test.py --promtool PATH --show SITUATION      prints what fires there, for the table
    python3 recorded_test.py --promtool PATH SITUATION...          only these

promtool evaluates the rules. Standard library only; see `check`. The beginning of SITUATIONS.md explains the table.
"""

import argparse
import json
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import series

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded"
RULES = (HERE / "alerts.yaml").read_text()
SEVERITY = dict(re.findall(r"- alert: (\w+)\n.*?severity: (\w+)", RULES, re.S))
# The recording that is repeated before and after a situation, from this minute on, for alerts with ranges of hours or
# days, and the metrics of those alerts.
BASELINE, BASELINE_MINUTE = "quiet_hour", 20
LONG_RANGE_METRICS = {"grpc_server_handled_total", "tenant_auth_undecided_total", "tenant_auth_verdicts_total"}

# Labels that all alerts have, or that are shown as the name.
COMMON_LABELS = {"__name__", "alertname", "alertstate", "job", "severity"}


@dataclass(frozen=True)
class Run:
    """One way of evaluating a situation."""

    name: str
    # The alerts to compare, as a matcher of PromQL.
    alerts: str
    # Seconds between two scrapes, between two evaluations, and between two comparisons; scrapes in between are skipped.
    scrape_interval: int
    evaluation_interval: int
    comparison_interval: int
    # Hours of the repeated recording before and after.
    before: int = 0
    after: int = 0
    # Tolerance of a firing's start and end, in seconds.
    slack: int = 60
    # The rule groups to evaluate: the others would only cost time.
    groups: tuple = ("tenant-auth-sli", "tenant-auth-sli-long", "tenant-auth-users")

    def covers(self, alert):
        operator, value = re.fullmatch(r'(=~|!~)"(.*)"', self.alerts).groups()
        return (re.fullmatch(value, alert) is not None) == (operator == "=~")


RUNS = [
    Run(
        "situation",
        '!~"TenantAuthErrorBudgetBurn.*|TenantAuthUnknownKeysSurge"',
        15,
        15,
        60,
        groups=("tenant-auth-users", "tenant-auth-database", "tenant-auth-replicas"),
    ),
    Run(
        "hours",
        '=~"TenantAuthErrorBudgetBurn[16]h|TenantAuthUnknownKeysSurge"',
        60,
        60,
        60,
        before=7,
        after=2,
        slack=120,
    ),
    Run("days", '=~"TenantAuthErrorBudgetBurn3d"', 600, 600, 600, before=72, after=9, slack=1800),
]


@dataclass(frozen=True)
class Firing:
    alert: str
    labels: tuple
    start: int
    end: int

    def state(self, second, slack):
        """Whether the alert has to fire (True), may fire (None), or must not fire (False)."""
        if self.start + slack <= second <= self.end - slack:
            return True
        return None if self.start - slack < second < self.end + slack else False

    def selector(self):
        return (
            "{" + ", ".join([f'alertname="{self.alert}"', *(f'{name}="{value}"' for name, value in self.labels)]) + "}"
        )

    def sample(self):
        labels = {
            "alertname": self.alert,
            "alertstate": "firing",
            "job": "tenant-auth",
            "severity": SEVERITY[self.alert],
        }
        inside = ", ".join(f'{name}="{value}"' for name, value in sorted((labels | dict(self.labels)).items()))
        return {"labels": f"ALERTS{{{inside}}}", "value": 1}


def table():
    """Situation to the rows of its table: alert, labels, from, until."""
    situations = {}
    for name, body in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", (RECORDED / "SITUATIONS.md").read_text(), re.M | re.S):
        if body.startswith("\nNot recorded"):
            continue
        rows = re.findall(r"^\| (TenantAuth\w+) \|([^|]*)\|([^|]*)\|([^|]*)\|$", body, re.M)
        situations[name] = [tuple(cell.strip() for cell in row) for row in rows]
        if len(rows) != body.count("| TenantAuth"):
            raise SystemExit(f"SITUATIONS.md: a row of {name} is not `| alert | labels | from | until |`")
    return situations


def second(text, marks, where):
    """The second of a `mark`, or of a time some minutes or hours after or before it."""
    match = re.fullmatch(r"(\w+)(?: ([+-]) (\d+)([mh]))?", text)
    if not match or match[1] not in marks:
        raise SystemExit(
            f"SITUATIONS.md, {where}: {text!r} is not one of {', '.join(marks)}, with + or - minutes (m) or hours (h)"
        )
    shift = int(match[3] or 0) * (3600 if match[4] == "h" else 60)
    return marks[match[1]] + (-shift if match[2] == "-" else shift)


def expected(recording, rows):
    firings = []
    for alert, labels, start, end in rows:
        where = f"{recording.situation}, {alert}"
        if alert not in SEVERITY:
            raise SystemExit(f"SITUATIONS.md, {where}: no such alert")
        pairs = tuple(sorted(re.findall(r"(\w+)=(\S+?)(?:,|$)", labels)))
        firings.append(Firing(alert, pairs, second(start, recording.marks, where), second(end, recording.marks, where)))
    return firings


def increments_from(values, start):
    """The values of a counter from an index on, minus the first of them."""
    later = values[start:]
    first = next((value for value in later if value is not None), 0)
    return [value if value is None else value - first for value in later]


def replay_input(recording, baseline, run):
    """The input of promtool, the second at which the situation begins in it, and the number of seconds from then on."""
    every, skipped = run.scrape_interval // recording.interval, BASELINE_MINUTE * 60 // baseline.interval
    period = (baseline.scrapes - skipped) // every
    before, after = (-(-hours * 3600 // (period * run.scrape_interval)) for hours in (run.before, run.after))
    inputs = []
    for name in sorted(recording.series.keys() | (baseline.series.keys() if before else set())):
        if before and series.labels(name)[0] not in LONG_RANGE_METRICS:
            continue
        values = recording.series.get(name, [None] * recording.scrapes)[::every]
        if before:
            repeated = increments_from(baseline.series.get(name, [None] * baseline.scrapes), skipped)[
                : period * every : every
            ]
            values = repeated * before + values + repeated * after
        if not before or any(value not in (None, series.STALE, 0) for value in values):
            inputs.append({"series": name, "values": series.encode(values)})
    length = -(-recording.scrapes // every) + period * after
    return inputs, period * before * run.scrape_interval, length * run.scrape_interval


def rules(groups):
    """The rules of these groups, unmodified."""
    head, *parts = re.split(r"^(?=  - name: )", RULES, flags=re.M)
    chosen = [part for part in parts if re.match(r"  - name: (\S+)", part)[1] in groups]
    if len(chosen) != len(groups):
        raise SystemExit(f"alerts.yaml lacks one of the groups {', '.join(groups)}")
    return head + "".join(chosen)


def comparisons(firings, run, begins, seconds):
    tests = []
    for moment in range(0, seconds, run.comparison_interval):
        states = [(firing, firing.state(moment, run.slack)) for firing in firings if run.covers(firing.alert)]
        optional = "".join(f" unless ALERTS{firing.selector()}" for firing, state in states if state is None)
        certain = [firing.sample() for firing, state in states if state]
        tests.append(
            {
                "eval_time": f"{begins + moment}s",
                "expr": f'ALERTS{{alertstate="firing", alertname{run.alerts}}}{optional}',
                "exp_samples": certain,
            }
        )
    return tests


def replay(promtool, recording, baseline, run, firings):
    """The differences: second of the situation, expected alerts, fired alerts."""
    inputs, begins, seconds = replay_input(recording, baseline, run)
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{run.evaluation_interval}s",
        "group_eval_order": run.groups,
        "tests": [
            {
                "interval": f"{run.scrape_interval}s",
                "input_series": inputs,
                "promql_expr_test": comparisons(firings, run, begins, seconds),
            }
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rules.yaml").write_text(rules(run.groups))
        # JSON is YAML.
        (Path(folder) / "test.json").write_text(json.dumps(test))
        command = [promtool, "test", "rules", f"{folder}/test.json"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    differences = []
    pattern = r"time: (\w+),\s+exp: ?(.*?)\n\s+got: ?(.*?)(?=\n\s+expr: |\Z)"
    for time, expected_alerts, got in re.findall(pattern, result.stdout + result.stderr, re.S):
        differences.append((in_seconds(time) - begins, alerts(expected_alerts), alerts(got)))
    if (result.returncode == 0) == bool(differences):
        raise SystemExit(f"promtool, {recording.situation}: {result.stdout}{result.stderr}")
    return differences


def in_seconds(time):
    return sum(
        int(count) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit]
        for count, unit in re.findall(r"(\d+)([dhms])", time)
    )


def alerts(samples):
    """Alerts with the labels that distinguish their instances."""
    names = set()
    for sample in re.findall(r"\{([^}]*)\}", samples):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', sample))
        own = [f"{name}={value}" for name, value in sorted(labels.items()) if name not in COMMON_LABELS]
        if "alertname" in labels:
            names.add(" ".join([labels["alertname"], *own]))
    return names


def show(promtool, recording, baseline):
    """Prints which alerts fire, from when until when, and the marks."""
    print(
        f"{recording.situation}:"
        f" {', '.join(f'{name} {seconds / 60:.1f}m' for name, seconds in recording.marks.items())}"
    )
    for run in RUNS:
        fired = {}
        for moment, _, got in replay_without_expectations(promtool, recording, baseline, run):
            for alert in got:
                fired.setdefault(alert, []).append(moment)
        for alert, moments in sorted(fired.items()):
            spans = []
            for moment in sorted(moments):
                if spans and moment - spans[-1][1] <= run.comparison_interval:
                    spans[-1][1] = moment
                else:
                    spans.append([moment, moment])
            print(
                f"  {run.name}: {alert}: " + ", ".join(f"{start / 60:.0f}m to {end / 60:.0f}m" for start, end in spans)
            )


def replay_without_expectations(promtool, recording, baseline, run):
    """Expects nothing, so that every firing is a difference. If nothing fires, promtool succeeds."""
    return replay(promtool, recording, baseline, run, [])


def problems(promtool, recording, baseline, rows):
    firings = expected(recording, rows)
    found = []
    for run in RUNS:
        for moment, expected_alerts, got in replay(promtool, recording, baseline, run, firings):
            wrong = [f"fires and should not: {name}" for name in sorted(got - expected_alerts)]
            wrong += [f"should fire and does not: {name}" for name in sorted(expected_alerts - got)]
            found += [f"{recording.situation} at {moment / 60:.0f}m ({run.name}): {one}" for one in wrong]
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--promtool", required=True)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("situations", nargs="*")
    options = parser.parse_args()
    uncovered = set(re.findall(r"^  - name: (\S+)", RULES, re.M)) - {group for run in RUNS for group in run.groups}
    if uncovered:
        raise SystemExit(f"alerts.yaml has groups that no run covers: {', '.join(sorted(uncovered))}")
    recordings = {path.stem: series.read(path) for path in sorted(RECORDED.glob("*.series"))}
    rows = {} if options.show else table()
    if not options.show and set(rows) != set(recordings):
        raise SystemExit(f"SITUATIONS.md and the recordings differ: {sorted(set(rows) ^ set(recordings))}")
    chosen = options.situations or list(recordings)
    if options.show:
        for name in chosen:
            show(options.promtool, recordings[name], recordings[BASELINE])
        return
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [
            pool.submit(problems, options.promtool, recordings[name], recordings[BASELINE], rows[name])
            for name in chosen
        ]
        found = [problem for job in jobs for problem in job.result()]
    print("\n".join(found) or f"{len(chosen)} recorded situations fire what the table says")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
