"""Runs a block in a state, and compares its output with the page's expectation."""

import re
import time

from pages import occurs

# The first scrapes may not have happened yet, and a flapping state needs another try.
TRIES = 15
# Seconds after which a block that should not end counts as endless.
ENDLESS_AFTER = 5


def run_block(block, testbed):
    """Runs the block repeatedly until it prints what is expected, if running it changes nothing."""
    kinds = {"sh": shell, "promql": promql, "sql": sql}
    assert block.language in kinds, f"{block}: no runner for {block.language or 'an untitled block'}"
    for left in reversed(range(TRIES if block.stated and is_read_only(block) else 1)):
        problem, output = kinds[block.language](block, testbed)
        problem = problem or mismatch(block, output)
        if not problem:
            return output
        if left:
            time.sleep(1)
    raise AssertionError(f"{block}, in the state {testbed.name}: {problem}\n--- output:\n{output}")


def is_read_only(block):
    return not re.search(
        r"\b(set|reset|accept|add|revoke|issue|audit-before|install|mv|repair|UPDATE api_keys)\b", block.text
    )


def mismatch(block, output):
    if not block.stated and block.section != "How to silence it safely":
        return "the page does not state the expected output in a paragraph `Expect: …`"
    if block.nothing:
        return None
    missing = [
        span for span in block.spans if not (compares(span, output) if is_comparison(span) else occurs(span, output))
    ]
    return f"does not show {missing}" if missing else None


def is_comparison(span):
    return re.fullmatch(r"(=|>|<) -?[\d.]+", span)


def compares(span, output):
    sign, expected = span.split()
    values = [float(line.rsplit(" ", 1)[1]) for line in output.splitlines() if re.search(r"\} \S+$", line)]
    operator = {"=": float.__eq__, ">": float.__gt__, "<": float.__lt__}[sign]
    return any(operator(value, float(expected)) for value in values)


def shell(block, testbed):
    outputs, assignments = [], []
    for command in block.commands():
        if re.fullmatch(r"[A-Z_]+=\S*(\s+#.*)?", command):
            assignments.append(command)
            continue
        result = testbed.shell(command, assignments, timeout=ENDLESS_AFTER if block.endless else 60)
        if block.endless:
            return None if result.returncode is None else f"exited: {command}", result.stdout
        output = result.stdout + (result.stderr if block.fails else "")
        outputs.append(output)
        if (result.returncode != 0) != block.fails:
            expected = "should have failed" if block.fails else f"exited with {result.returncode}"
            return f"{expected}: {command}\n{result.stderr}", "".join(outputs)
        if not output.strip():
            return f"printed nothing: {command}\n{result.stderr}", "".join(outputs)
    return None, "".join(outputs)


def promql(block, testbed):
    outputs = []
    for query in block.queries():
        lines = testbed.monitoring.query(query, testbed.name)
        outputs += lines
        if bool(lines) == block.nothing:
            # Series are missing while scrapes fail.
            scraped = testbed.monitoring.query('up{job="tenant-auth"}', testbed.name)
            return f"found {'something' if lines else 'nothing'}: {query}; {scraped}", "\n".join(outputs)
    return None, "\n".join(outputs)


def sql(block, testbed):
    output = testbed.databases[0].sql(testbed.substitute(block.text))
    return None if output else "found no rows", output
