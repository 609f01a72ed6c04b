"""Recorded series as text: a line each, in the notation of `promtool test rules`; runs of equal steps are compressed.

    # situation: outage_refused
    # interval: 15
    # scrapes: 146
    # mark: begins 300
    up{instance="a:50052|b:50052",job="tenant-auth"} 1x145

Series with the same values share a line: it stands for every combination of the values between the bars. Each value
is that of one scrape. `_` is a scrape before the series exists or after it has ended, `stale` the scrape at which it
ended.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

STALE = "stale"


@dataclass
class Recording:
    situation: str
    interval: int
    scrapes: int
    # Seconds since the first scrape.
    marks: dict
    # Name with sorted labels to its value in each scrape: a number, None for no sample, or STALE.
    series: dict


def steps(values, start):
    """From `start`: how many values continue with the same step, and that step."""
    first, end = values[start], start + 1
    if first is None:
        while end < len(values) and values[end] is None:
            end += 1
        return end, None
    if first == STALE or end == len(values) or not isinstance(values[end], (int, float)):
        return end, 0
    step = values[end] - first
    # Sums of decimal fractions are inexact: only constant values form a run.
    if step and not (isinstance(first, int) and isinstance(values[end], int)):
        return end, 0
    while end < len(values) and isinstance(values[end], type(first)) and values[end] - values[end - 1] == step:
        end += 1
    return (end, step) if end - start > 2 or not step else (start + 1, 0)


def encode(values):
    tokens, index = [], 0
    while index < len(values):
        end, step = steps(values, index)
        first, more = values[index], end - index - 1
        if first is None:
            tokens.append("_" if not more else f"_x{more + 1}")
        elif not more:
            tokens.append(str(first))
        else:
            tokens.append(f"{first}x{more}" if not step else f"{first}{step:+}x{more}")
        index = end
    return " ".join(tokens)


def number(text):
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


def decode(text):
    values = []
    for token in text.split():
        if token.startswith("_"):
            values += [None] * int(token[2:] or 1)
        elif token == STALE:
            values.append(STALE)
        elif "x" in token:
            run, _, more = token.partition("x")
            first, step = re.fullmatch(r"(-?[\d.e-]+?)([+-]\d+)?", run).groups()
            values += [number(first) + index * int(step or 0) for index in range(int(more) + 1)]
        else:
            values.append(number(token))
    return values


def merged(recording):
    """Lines: metric, values of each label, and values; series that differ in one label are merged, label by label."""
    lines = []
    for name, values in recording.series.items():
        metric, own_labels = labels(name)
        lines.append((metric, {label: (value,) for label, value in own_labels.items()}, encode(values)))
    for label in sorted({label for _, own_labels, _ in lines for label in own_labels}):
        alike = {}
        for metric, own_labels, encoded in lines:
            others = tuple(sorted((name, values) for name, values in own_labels.items() if name != label))
            alike.setdefault((metric, others, label in own_labels, encoded), []).extend(own_labels.get(label, ()))
        lines = [
            (metric, dict(others) | ({label: tuple(sorted(values))} if has else {}), encoded)
            for (metric, others, has, encoded), values in alike.items()
        ]
    return lines


def series_name(metric, own_labels):
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(own_labels.items()))
    return f"{metric}{{{inside}}}"


def write(path, recording):
    head = [
        f"# situation: {recording.situation}",
        f"# interval: {recording.interval}",
        f"# scrapes: {recording.scrapes}",
    ]
    head += [f"# mark: {name} {seconds}" for name, seconds in recording.marks.items()]
    lines = [
        f"{series_name(metric, {k: '|'.join(v) for k, v in own_labels.items()})} {encoded}"
        for metric, own_labels, encoded in merged(recording)
    ]
    Path(path).write_text("\n".join(head + sorted(lines)) + "\n")


def read(path):
    text = Path(path).read_text()
    header = dict(re.findall(r"^# (situation|interval|scrapes): (\S+)$", text, re.M))
    marks = {name: int(seconds) for name, seconds in re.findall(r"^# mark: (\w+) (\d+)$", text, re.M)}
    series = {}
    for name, encoded in re.findall(r"^(\w+\{.*\}) (.+)$", text, re.M):
        metric, own_labels = labels(name)
        for each in itertools.product(*(value.split("|") for value in own_labels.values())):
            series[series_name(metric, dict(zip(own_labels, each, strict=True)))] = decode(encoded)
    return Recording(header["situation"], int(header["interval"]), int(header["scrapes"]), marks, series)


def labels(name):
    """Splits the name of a series into the metric and its labels."""
    metric, _, inside = name.partition("{")
    return metric, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
