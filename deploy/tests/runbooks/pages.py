"""Reads a page: its fenced blocks, what each of them is expected to find, and its commands in running text.

What is expected stands in the paragraph after a block, as a reader sees it:

    Expect: `database  failing (unreachable)`, `breaker   open for lookups`.
    Expect a failure: `connection refused`.
    Expect no end: `"rows"`.
    Expect nothing.

Each code span has to occur in what the block prints. `…` stands for anything within a line. After PromQL, a span such as `> 0`
holds if it is true of one of the samples. A failure: every command of the block ends with an error, and says that. Nothing: the
queries find no series, which is good. No end: the block is still at work after some seconds, and has printed that much.
"""

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

# To be shown, not to be run.
SHOWN = {"console", "text", "toml", "yaml", "json", ""}
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
EXPECT = re.compile(r"\s*Expect(?P<kind> a failure| nothing| no end)?(?P<rest>(?:[:.]|[ \n]).*?)(?=\n\s*\n|\Z)", re.DOTALL)


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
    # Whether the page says at all what is to be seen.
    stated: bool = False

    def __str__(self):
        return f"{self.page.name}:{self.line}"

    def commands(self):
        """One after the other, as they are pasted into a shell."""
        lines, pending = self.text.splitlines(), []
        for line in lines:
            pending.append(line)
            if line.endswith("\\") or not line.strip() or not complete("\n".join(pending)):
                continue
            yield "\n".join(pending)
            pending = []
        assert not "".join(pending).strip(), f"{self}: the shell waits for more after {pending}"

    def queries(self):
        return [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]


def complete(text):
    """Whether the shell would run this, or wait for another line."""
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
    """The code spans outside of blocks: commands and names that a page mentions in passing."""
    text = FENCE.sub("", page.read_text())
    return re.findall(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", text)


def occurs(span, output):
    """Whether a span is in what was printed. Blanks count as one: columns are as wide as what stands in them."""
    pattern = r"[^\n]*".join(r"\s+".join(map(re.escape, part.split())) for part in span.split("…"))
    return re.search(pattern, output) is not None
