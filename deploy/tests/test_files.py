"""Checks of all files of the deployment."""

import re

from deployment import DEPLOY, ROOT, VENV, run, succeeded

YAMLLINT = """\
extends: default
rules:
  braces: {max-spaces-inside: 1}
  comments: {min-spaces-from-content: 1}
  document-start: disable
  line-length: {max: 140}
  truthy: {check-keys: false}
"""


def tracked(*patterns):
    listed = succeeded(run("git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns)).splitlines()
    # A tracked file may have been deleted without a commit.
    return [ROOT / name for name in listed if (ROOT / name).exists()]


def test_yaml_is_well_formed():
    # Templates are YAML only when they are rendered.
    files = [path for path in tracked("deploy/*.yaml", ".github/*.yml") if "templates" not in path.parts]
    assert len(files) > 8
    succeeded(run(VENV / "yamllint", "--strict", "--config-data", YAMLLINT, *files))


def test_shellcheck_finds_nothing():
    programs = [path for path in tracked("deploy", ".ci") if path.is_file() and path.read_bytes()[:2] == b"#!"]
    scripts = [path for path in programs if b"python" not in path.read_bytes().splitlines()[0]]
    assert DEPLOY / "check" in scripts and DEPLOY / "compose" / "seed.sh" in scripts
    succeeded(run(VENV / "shellcheck", *scripts))


def test_images_name_no_registry():
    texts = [path.read_text() for path in tracked("deploy/compose/*.yaml", "deploy/docker", "deploy/helm")]
    images = re.findall(r"(?:image:|_IMAGE=|repository:)\s*(?:\$\{\w+:-)?([\w./:-]+)", "\n".join(texts))
    assert len(images) > 5
    for image in images:
        first, slash, _ = image.partition("/")
        assert not slash or not re.search(r"[.:]", first), f"{image} names a registry"
