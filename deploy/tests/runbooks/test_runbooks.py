"""Every command and query of every alert page works in the state that the page is for, and prints what the page
expects.

A service that runs, a database with faults, Prometheus and Alertmanager are real. kubectl, systemctl and journalctl
are replaced by stubs: see `stubs/`.
"""

import re

import pytest
from block_runner import run_block
from page_states import PAGE_STATES
from pages import blocks, inline
from states import STATES

from deployment import DEPLOY, PROGRAMS, run

RUNBOOKS = DEPLOY / "observability/runbooks"
SILENCE = "How to silence it safely"


def test_every_page_has_a_state():
    pages = {page.stem for page in RUNBOOKS.glob("*.md")}
    assert set(PAGE_STATES) == pages, (
        f"a page without a state, or a state without a page: {sorted(set(PAGE_STATES) ^ pages)}"
    )
    assert {name.partition("@")[0] for name in PAGE_STATES.values()} <= set(STATES)


# Pages of one state are tested one after the other: the state ends after the last one.
@pytest.mark.parametrize(("page", "state"), sorted(PAGE_STATES.items(), key=lambda item: item[::-1]))
def test_page_commands_print_what_the_page_expects(page, state, testbeds):
    page_blocks = list(blocks(RUNBOOKS / f"{page}.md"))
    assert any(block.section == "What to look at first" for block in page_blocks), (
        f"{page} has no block under 'What to look at first'"
    )
    problems = []
    with testbeds.use(state) as testbed:
        for block in page_blocks:
            try:
                run_block(block, testbed)
            except AssertionError as problem:
                problems.append(str(problem))
            if block.section == SILENCE:
                check_silence(page, testbed)
    assert not problems, "\n\n".join(problems)


def check_silence(page, testbed):
    """The command silences this alert, for a limited time."""
    silences = [one for one in testbed.monitoring.silences() if one["status"]["state"] == "active"]
    names = [match["value"] for one in silences for match in one["matchers"] if match["name"] == "alertname"]
    assert page in names, f"{page}: Alertmanager has no silence for it, only for {names}"


@pytest.mark.parametrize("page", sorted(PAGE_STATES))
def test_names_in_running_text_exist(page):
    spans = inline(RUNBOOKS / f"{page}.md")
    metrics = set(
        re.findall(r"^\| `(tenant_auth_\w+)`", (DEPLOY.parent / "tenant-auth-svc/METRICS.md").read_text(), re.MULTILINE)
    )
    variables = (DEPLOY / "config/tenant-auth.env").read_text()
    for span in spans:
        for name in re.findall(r"\btenant_auth_\w+", span):
            whole = re.sub(r"_(bucket|sum|count)$", "", name)
            assert {name, whole} & metrics, f"{page}: there is no metric {name}"
        for name in re.findall(r"\bTENANT_AUTH_[A-Z_]+\b", span):
            assert re.search(rf"^#?{name}=", variables, re.MULTILINE), f"{page}: there is no variable {name}"


@pytest.mark.parametrize(
    "page", [*RUNBOOKS.glob("*.md"), DEPLOY / "AT_NIGHT.md", DEPLOY / "RESTORING.md"], ids=lambda page: page.stem
)
def test_commands_in_running_text_exist(page):
    """Commands and flags in running text exist; their required arguments may be left out there."""
    for span in inline(page):
        words = re.sub(r"^echo KEY \| ", "", " ".join(span.split())).split(" --reason ")[0].replace('"', "").split()
        if words and words[0] in ("tenantctl", "tenant-auth-svc"):
            result = run(PROGRAMS / words[0], *words[1:], "--help")
            assert result.returncode == 0, f"{page.name}: `{span}`: {result.stderr}"
