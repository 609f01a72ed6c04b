"""Creates a fixture from a recording: the values of every series that a rule selects, in each scrape.

Adds what Prometheus would add: `up`, job and instance; a series that is missing from a scrape, or whose replica does
not respond, is stale then. The build's stamp is replaced by one fixed clean commit, because recordings are made with
arbitrary builds, and non-integer values are rounded to milliseconds.
"""

import gzip
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import lint  # noqa: E402
import series  # noqa: E402

RECORDED = HERE.parent / "recorded"
BUILD = {"version": "1.0.0", "commit": "0" * 40, "branch": "main", "dirty": "false"}
OPERATORS = {
    "=": lambda actual, expected: actual == expected,
    "!=": lambda actual, expected: actual != expected,
    "=~": lambda actual, expected: re.fullmatch(expected, actual) is not None,
    "!~": lambda actual, expected: re.fullmatch(expected, actual) is None,
}


def selected_series():
    """Metric to the sets of matchers with which rules select it."""
    selected = {"up": [[]]}
    for where, expression in lint.expressions():
        if where == "alerts.yaml":
            for name, matchers in lint.selectors(expression):
                selected.setdefault(name, []).append(matchers)
    return selected


def matches(labels, matchers):
    return all(OPERATORS[operator](labels.get(label, ""), value) for label, operator, value in matchers)


def samples_of(text, instance):
    """The series of one scrape, with the labels that Prometheus adds."""
    for metric, inside, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.M):
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside)) | {"job": "tenant-auth", "instance": instance}
        if metric == "tenant_auth_build_info":
            labels |= BUILD
        yield metric, labels, float(value)


def rounded(value):
    return int(value) if value.is_integer() else round(value, 3)


def write(folder):
    """Writes the fixture of the recording in `folder`, and returns its path."""
    described = json.loads((folder / "situation.json").read_text())
    with gzip.open(folder / "scrapes.jsonl.gz", "rt") as file:
        scrapes = [json.loads(line) for line in file]
    # The last scrape may have been aborted after the first replica.
    replicas = {}
    for scrape in scrapes:
        replicas[scrape["scrape"]] = replicas.get(scrape["scrape"], 0) + 1
    count = sum(each == replicas[0] for each in replicas.values())
    selected, found = selected_series(), {}
    for scrape in scrapes:
        index, instance = scrape["scrape"], scrape["instance"]
        if index >= count:
            continue
        samples = [
            *samples_of(scrape["text"], instance),
            ("up", {"job": "tenant-auth", "instance": instance}, float(scrape["up"])),
        ]
        for metric, labels, value in samples:
            if any(matches(labels, matchers) for matchers in selected.get(metric, [])):
                found.setdefault(series.series_name(metric, labels), [None] * count)[index] = rounded(value)
    for values in found.values():
        for index in range(1, count):
            if values[index] is None and values[index - 1] not in (None, series.STALE):
                values[index] = series.STALE
    path = RECORDED / f"{described['situation']}.series"
    # An aborted recording ends with its last scrape.
    marks = {"end": (count - 1) * described["interval"]} | described["marks"]
    recording = series.Recording(described["situation"], described["interval"], count, marks, found)
    series.write(path, recording)
    if series.read(path).series != found:
        raise RuntimeError(f"{path} differs from the recording")
    return path
