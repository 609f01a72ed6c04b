"""The Dockerfile. No image is built: that takes a container engine and base images, which CI may not have."""

import fnmatch
import json
import re
import shutil
import tomllib

from deployment import DEPLOY, PROGRAMS, ROOT, VENV, run, succeeded

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"


def instructions():
    """Each instruction with its arguments; continued lines are joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(word.upper(), rest) for word, rest in lines]


def test_hadolint_finds_nothing():
    assert succeeded(run(VENV / "hadolint", "--failure-threshold", "style", DOCKERFILE)) == ""


def stage(name):
    stages = {}
    current = None
    for word, rest in instructions():
        if word == "FROM":
            current = rest.split(" AS ")[1]
            stages[current] = []
        elif current:
            stages[current].append((word, rest))
    return stages[name]


def test_last_stage_runs_as_an_unprivileged_user():
    froms = [rest for word, rest in instructions() if word == "FROM"]
    assert froms[-1] == "runtime AS tenant-auth"
    assert ("USER", "65532:65532") in stage("runtime")
    assert not [word for name in ["runtime", "tenant-auth"] for word, _ in stage(name) if word in {"RUN", "VOLUME"}]


def test_entrypoint_and_healthcheck_commands_exist():
    service = dict(stage("tenant-auth"))
    entry = json.loads(service["ENTRYPOINT"])
    check = json.loads(service["HEALTHCHECK"].partition("CMD ")[2])
    assert check[:1] == entry
    for arguments in [check[1:], json.loads(service["CMD"])]:
        succeeded(run(PROGRAMS / "tenant-auth-svc", *arguments, "--help"))


def test_base_images_are_official_and_configurable():
    images = dict(rest.split("=") for word, rest in instructions() if word == "ARG" and "_IMAGE=" in rest)
    assert images.keys() == {"BUILD_IMAGE", "RUNTIME_IMAGE"}
    for image in images.values():
        assert "/" not in image and not image.endswith(":latest")
    toolchain = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert images["BUILD_IMAGE"].startswith(f"rust:{toolchain}")
    # The program is linked with the C library of the build image and runs with that of the runtime image.
    assert images["BUILD_IMAGE"].split("-")[-1] in images["RUNTIME_IMAGE"]


def test_build_stamp_reaches_build_and_labels():
    build_args = [rest.partition("=")[0] for word, rest in stage("build") if word == "ARG"]
    assert {"STAMP_COMMIT", "STAMP_BRANCH", "STAMP_DIRTY", "SOURCE_DATE_EPOCH"} <= set(build_args)
    script = (ROOT / "tenant-auth-svc" / "build.rs").read_text()
    assert all(f'"{name}"' in script for name in build_args), "the build script reads them"
    (labels,) = [rest for word, rest in stage("runtime") if word == "LABEL"]
    for label, arg in [
        ("org.opencontainers.image.revision", "STAMP_COMMIT"),
        ("tenant-auth.branch", "STAMP_BRANCH"),
        ("tenant-auth.dirty", "STAMP_DIRTY"),
    ]:
        assert f'{label}="${{{arg}}}"' in labels
    # A build without these arguments must not look like a release.
    assert {rest for word, rest in instructions() if rest.startswith("STAMP_DIRTY")} == {"STAMP_DIRTY=true"}


def admitted():
    """The files of the commit that .dockerignore admits to the context."""
    patterns = [
        line
        for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]

    def ignored(path):
        result = False
        for pattern in patterns:
            bare = pattern.lstrip("!")
            parts = [str(path), *(str(parent) for parent in path.parents)]
            names = [part.rpartition("/")[2] for part in parts] if bare.startswith("**/") else parts
            if any(fnmatch.fnmatchcase(name, bare.removeprefix("**/")) for name in names):
                result = not pattern.startswith("!")
        return result

    listed = succeeded(run("git", "ls-files", "--cached", "--others", "--exclude-standard")).splitlines()
    return [name for name in listed if not ignored((ROOT / name).relative_to(ROOT))]


def test_build_context_has_only_what_the_build_needs(tmp_path):
    names = admitted()
    assert not [name for name in names if name.startswith((".git", "clients/go", "clients/python", "deploy/helm"))]
    for name in names:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    # Every member of the workspace is there, and Cargo.lock matches.
    metadata = json.loads(
        succeeded(run("cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version=1", cwd=tmp_path))
    )
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    assert len(metadata["packages"]) == len(members)
    for package in metadata["packages"]:
        for target in package["targets"]:
            assert (tmp_path / target["src_path"]).exists()
