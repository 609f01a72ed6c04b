"""Fixtures of the tests of the chart."""

import shutil

import pytest

from chart import ALERTS, CASES, render
from deployment import CHART


@pytest.fixture(scope="session")
def chart(tmp_path_factory):
    """A copy of the chart with the test's own rules and dashboard."""
    copy = tmp_path_factory.mktemp("chart") / "tenant-auth"
    shutil.copytree(CHART, copy, ignore=shutil.ignore_patterns("files"))
    (copy / "files").mkdir()
    (copy / "files" / "alerts.yaml").write_text(ALERTS)
    (copy / "files" / "dashboard.json").write_text('{\n  "title": "test"\n}\n')
    return copy


@pytest.fixture(scope="session")
def rendered(chart):
    return {case: render(chart, case) for case in CASES}
