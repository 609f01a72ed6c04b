"""Recorded series as text: one line each, in the notation of `promtool test rules`, with runs of equal steps compressed.

    # situation: outage_refused
    # interval: 15
    # turns: 146
    # mark: begins 300
    up{instance="a:50052|b:50052",job="tenant-auth"} 1x145

Series with the same values share a line: it stands for every combination of the values between the bars. A turn is one scrape. `_` is a turn before the series exists or after it has gone, `stale` the turn at which it went.
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
    turns: int
    # Seconds since the first turn.
    marks: dict
    # Name with sorted labels to its value in each turn: a number, None for no sample, or STALE.
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
    words, place = [], 0
    while place < len(values):
        end, step = steps(values, place)
        first, more = values[place], end - place - 1
        if first is None:
            words.append("_" if not more else f"_x{more + 1}")
        elif not more:
            words.append(str(first))
        else:
            words.append(f"{first}x{more}" if not step else f"{first}{step:+}x{more}")
        place = end
    return " ".join(words)


def number(text):
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


def decode(text):
    values = []
    for word in text.split():
        if word.startswith("_"):
            values += [None] * int(word[2:] or 1)
        elif word == STALE:
            values.append(STALE)
        elif "x" in word:
            run, _, more = word.partition("x")
            first, step = re.fullmatch(r"(-?[\d.e-]+?)([+-]\d+)?", run).groups()
            values += [number(first) + place * int(step or 0) for place in range(int(more) + 1)]
        else:
            values.append(number(word))
    return values


def joined(recording):
    """Lines: metric, values of each label, and values; series that differ in one label only are merged, label by label."""
    lines = []
    for name, told in recording.series.items():
        metric, own = labels(name)
        lines.append((metric, {label: (value,) for label, value in own.items()}, encode(told)))
    for label in sorted({label for _, own, _ in lines for label in own}):
        alike = {}
        for metric, own, told in lines:
            others = tuple(sorted((name, values) for name, values in own.items() if name != label))
            alike.setdefault((metric, others, label in own, told), []).extend(own.get(label, ()))
        lines = [
            (metric, dict(others) | ({label: tuple(sorted(values))} if has else {}), told)
            for (metric, others, has, told), values in alike.items()
        ]
    return lines


def whole_name(metric, own):
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(own.items()))
    return f"{metric}{{{inside}}}"


def write(path, recording):
    head = [f"# situation: {recording.situation}", f"# interval: {recording.interval}", f"# turns: {recording.turns}"]
    head += [f"# mark: {name} {seconds}" for name, seconds in recording.marks.items()]
    lines = [f"{whole_name(metric, {k: '|'.join(v) for k, v in own.items()})} {told}" for metric, own, told in joined(recording)]
    Path(path).write_text("\n".join(head + sorted(lines)) + "\n")


def read(path):
    text = Path(path).read_text()
    facts = dict(re.findall(r"^# (situation|interval|turns): (\S+)$", text, re.M))
    marks = {name: int(seconds) for name, seconds in re.findall(r"^# mark: (\w+) (\d+)$", text, re.M)}
    series = {}
    for name, told in re.findall(r"^(\w+\{.*\}) (.+)$", text, re.M):
        metric, own = labels(name)
        for each in itertools.product(*(value.split("|") for value in own.values())):
            series[whole_name(metric, dict(zip(own, each, strict=True)))] = decode(told)
    return Recording(facts["situation"], int(facts["interval"]), int(facts["turns"]), marks, series)


def labels(name):
    """Splits a series' whole name into the metric and its labels."""
    metric, _, inside = name.partition("{")
    return metric, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
