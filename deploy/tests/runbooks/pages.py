"""Reads a page: its fenced blocks, the expected output of each, and the commands in running text.

The paragraph after a block states the expected output, in a form for human readers:

    Expect: `database  failing (unreachable)`, `breaker   open for lookups`.
    Expect a failure: `connection refused`.
    Expect no end: `"rows"`.
    Expect nothing.

Each code span has to occur in the block's output. `…` stands for anything within a line. After PromQL, a span such as
`> 0` holds if it is true for one of the samples. "A failure": every command of the block fails, and prints that.
"Nothing": the queries find no series, as expected. "No end": the block still runs after some seconds, and has printed
that much.
"""

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

# Languages of blocks that are not run.
SHOWN = {"console", "text", "toml", "yaml", "json", ""}
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
EXPECT = re.compile(
    r"\s*Expect(?P<kind> a failure| nothing| no end)?(?P<rest>(?:[:.]|[ \n]).*?)(?=\n\s*\n|\Z)", re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block that an operator runs."""

    page: Path
    line: int
    section: str
    language: str
    text: str
    spans: list[str] = field(default_factory=list)
    fails: bool = False
    nothing: bool = False
    endless: bool = False
    # Whether the page states the expected output.
    stated: bool = False

    def __str__(self):
        return f"{self.page.name}:{self.line}"

    def commands(self):
        """The commands in order, as pasted into a shell."""
        lines, pending = self.text.splitlines(), []
        for line in lines:
            pending.append(line)
            if line.endswith("\\") or not line.strip() or not complete("\n".join(pending)):
                continue
            yield "\n".join(pending)
            pending = []
        assert not "".join(pending).strip(), f"{self}: incomplete command {pending}"

    def queries(self):
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]


def complete(text):
    """Whether the text is a complete command, so that the shell would not wait for another line."""
    import subprocess

    return subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False).returncode == 0


def blocks(page):
    text = page.read_text()
    for match in FENCE.finditer(text):
        if match["language"] in SHOWN:
            continue
        before = text[: match.start()]
        sections = re.findall(r"^## (.*)$", before, re.MULTILINE)
        stated = EXPECT.match(text, match.end() + 1)
        spans = re.findall(r"`([^`]+)`", stated["rest"]) if stated else []
        yield Block(
            page=page,
            line=before.count("\n") + 1,
            section=sections[-1] if sections else "",
            language=match["language"],
            text=textwrap.dedent(match["text"]),
            spans=spans,
            fails=bool(stated) and stated["kind"] == " a failure",
            nothing=bool(stated) and stated["kind"] == " nothing",
            endless=bool(stated) and stated["kind"] == " no end",
            stated=bool(stated),
        )


def inline(page):
    """The code spans outside of blocks: commands and names in running text."""
    text = FENCE.sub("", page.read_text())
    return re.findall(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", text)


def occurs(span, output):
    """Whether the output contains a span. Several blanks count as one, because column widths vary with their
    content."""
    pattern = r"[^\n]*".join(r"\s+".join(map(re.escape, part.split())) for part in span.split("…"))
    return re.search(pattern, output) is not None
