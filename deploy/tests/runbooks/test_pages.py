"""Tests of the page tests: a block that prints nothing, or something unexpected, fails."""

import subprocess

import pytest
from block_runner import mismatch, run_block
from pages import blocks, occurs

PAGE = """\
## What to look at first

```sh
for one in a b; do
  echo "$one"
done
echo 'two' |
  cat
```

Expect: `b`, `t…o`.

1. In a list:

   ```promql
   up
   ```

   Expect: `> 0`.

```text
not run
```

```sh
false
```

Expect a failure: `gone`.
"""


class Shell:
    """A testbed that uses this machine's shell."""

    name = "test"

    def shell(self, command, assignments=(), timeout=60):
        return subprocess.run(["bash", "-uc", command], capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def page(tmp_path):
    def write(text=PAGE):
        path = tmp_path / "page.md"
        path.write_text(text)
        return list(blocks(path))

    return write


def test_blocks_are_read_with_their_expectations(page):
    first, query, failing = page()
    assert list(first.commands()) == ['for one in a b; do\n  echo "$one"\ndone', "echo 'two' |\n  cat"]
    assert (first.spans, first.section, first.fails) == (["b", "t…o"], "What to look at first", False)
    assert (query.queries(), query.spans) == (["up"], ["> 0"])
    assert (failing.spans, failing.fails) == (["gone"], True)


def test_block_with_expected_output_passes(page):
    assert run_block(page()[0], Shell()) == "a\nb\ntwo\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo one", "Expect: `two`."),
        ("true", "Expect: `two`."),
        ("echo two | grep one", "Expect: `one`."),
        ("echo two; exit 3", "Expect: `two`."),
        ("echo two", "Expect a failure: `two`."),
        ("echo two", "It prints two."),
    ],
)
def test_block_with_other_output_fails(page, command, expected, monkeypatch):
    monkeypatch.setattr("block_runner.TRIES", 1)
    (block,) = page(f"## First\n\n```sh\n{command}\n```\n\n{expected}\n")
    with pytest.raises(AssertionError):
        run_block(block, Shell())


def test_sample_values_are_compared(page):
    query = page()[1]
    assert mismatch(query, 'up{job="tenant-auth"} 1') is None
    assert mismatch(query, 'up{job="tenant-auth"} 0')


def test_span_ignores_blank_runs_and_stays_in_a_line():
    assert occurs("database  failing", "database      failing (denied)")
    assert occurs("a…c", "a b c") and not occurs("a…c", "a\nc")
