"""Generates `tenant_auth.proto` from the contract. With --check it only reports whether the code is up to date.

The versions of the generators are pinned here as well as in the lock file: generated code determines which versions of
grpcio and protobuf a user of the package needs, so it must not change with the generator of a developer's machine.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

GENERATORS = {"grpcio-tools": "1.76.0", "mypy-protobuf": "5.1.0"}

HERE = Path(__file__).resolve().parent.parent
CONTRACT = HERE.parent.parent / "proto"
PACKAGE = HERE / "src" / "tenant_auth" / "proto"
INIT = '''"""The contract's messages and services, generated from the .proto files. Do not edit."""\n'''


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if files differ")
    check = parser.parse_args().check

    for name, pinned in GENERATORS.items():
        installed = metadata.version(name)
        if installed != pinned:
            print(f"{name} {pinned} is needed, {installed} is installed", file=sys.stderr)
            return 2

    expected = generate()
    present = {path.name: path.read_text() for path in PACKAGE.glob("*.py*")}
    differing = sorted(name for name in expected | present if expected.get(name) != present.get(name))
    if check:
        for name in differing:
            print(f"{PACKAGE / name} differs from the contract: run tools/generate.py", file=sys.stderr)
        return 1 if differing else 0

    PACKAGE.mkdir(parents=True, exist_ok=True)
    for name in differing:
        if name in expected:
            (PACKAGE / name).write_text(expected[name])
        else:
            (PACKAGE / name).unlink()
    return 0


def generate() -> dict[str, str]:
    """Returns the expected files by name."""
    sources = sorted(str(path) for path in (CONTRACT / "tenantauth" / "v1").glob("*.proto"))
    scripts = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{CONTRACT}"]
        command += [f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
        command += [f"--{kind}_out={folder}" for kind in ("python", "grpc_python")]
        command += [f"--{kind}_out=quiet:{folder}" for kind in ("mypy", "mypy_grpc")]
        subprocess.run([*command, *sources], check=True)
        made = Path(folder, "tenantauth", "v1")
        files = {path.name: relative(path.read_text()) for path in made.iterdir()}
    # The generators also create service modules for files without a service. These are empty and dropped.
    with_service = {Path(source).stem for source in sources if "\nservice " in Path(source).read_text()}
    files = {name: text for name, text in files.items() if "_pb2_grpc" not in name or stem(name) in with_service}
    return {"__init__.py": INIT, **files}


def stem(name: str) -> str:
    return name.split("_pb2")[0]


def relative(text: str) -> str:
    """Makes imports relative: the generators assume that the contract's folders are top-level packages."""
    return re.sub(r"^from tenantauth\.v1 import ", "from . import ", text, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
