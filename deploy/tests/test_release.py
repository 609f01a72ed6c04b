"""The release workflow, and its interface to the guard."""

import json

import pytest
import yaml

from deployment import PROGRAMS, ROOT, TOOLS, run, succeeded

WORKFLOWS = ROOT / ".github" / "workflows"
GUARD = "release-guard -- check"


@pytest.fixture
def workflow():
    return yaml.safe_load((WORKFLOWS / "release.yml").read_text())


def scripts(job):
    return [step.get("run") or step.get("uses") for step in job["steps"]]


def first(texts, word):
    return next(index for index, text in enumerate(texts) if word in text)


def test_actionlint_finds_nothing():
    succeeded(run(TOOLS / "actionlint", *sorted(WORKFLOWS.glob("*.yml"))))


def test_guard_runs_before_build_and_publication(workflow):
    texts = scripts(workflow["jobs"]["release"])
    guards = [index for index, text in enumerate(texts) if GUARD in text]
    built = first(texts, "--profile dist")
    image = first(texts, "docker build")
    pushed = first(texts, "docker push")
    published = first(texts, "gh release create")
    assert len(guards) == 3, "before the build, of the program, of the image"
    assert guards[0] < built < guards[1] < image < guards[2] < pushed < published
    assert "--version-output" in texts[guards[1]]
    assert "--image-stamp" in texts[guards[2]]


def test_checkout_has_full_history_and_credentials(workflow):
    (checkout,) = [step for step in workflow["jobs"]["release"]["steps"] if "checkout" in step.get("uses", "")]
    assert checkout["with"]["fetch-depth"] == 0, "a shallow clone does not have the history of main"
    assert checkout["with"]["persist-credentials"] is True


def test_workflow_has_minimal_permissions(workflow):
    assert workflow["permissions"] == {}
    assert set(workflow["jobs"]["release"]["permissions"]) == {"contents", "attestations", "id-token"}


def test_guard_reads_the_version_output():
    printed = succeeded(run(PROGRAMS / "tenant-auth-svc", "--version"))
    check = [PROGRAMS / "release-guard", "check", "--json", "--canonical", str(ROOT), "--branch", "main"]
    # Of this repository, in any state.
    result = run(*check, "--remote", str(ROOT), "--version-output", printed)
    assert result.returncode in {0, 1}, result.stderr
    assert "no_stamp" not in [refusal["code"] for refusal in json.loads(result.stdout)["refusals"]]
    assert "no_stamp" in run(*check, "--remote", str(ROOT), "--version-output", "nothing").stdout


def test_canonical_repository_matches_the_go_module():
    canonical = json.loads((ROOT / "deploy" / "release-guard" / "canonical.json").read_text())
    assert canonical["branch"] == "main"
    module = (ROOT / "clients" / "go" / "go.mod").read_text().split()[1]
    assert canonical["remote"] == f"https://{module.removesuffix('/clients/go')}"
