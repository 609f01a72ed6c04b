"""Builds the wheel and checks that it works without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
NEEDED = {
    "tenant_auth/py.typed",
    "tenant_auth/proto/validation_pb2.py",
    "tenant_auth/proto/validation_pb2.pyi",
    "tenant_auth/proto/validation_pb2_grpc.pyi",
}
PROBE = "import tenant_auth, tenant_auth.asgi; print(tenant_auth.__file__)"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=HERE, check=True)
        (wheel,) = Path(folder).glob("tenant_auth-*-py3-none-any.whl")
        names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        missing, strange = NEEDED - names, {name for name in names if not name.startswith("tenant_auth/")}
        if missing or strange:
            print(f"the wheel lacks {sorted(missing)} and must not contain {sorted(strange)}", file=sys.stderr)
            return 1
        environment = os.environ | {"PYTHONPATH": str(wheel)}
        probe = [sys.executable, "-c", PROBE]
        used = subprocess.run(probe, env=environment, cwd=folder, check=True, capture_output=True, text=True).stdout
        if wheel.name not in used:
            print(f"{used.strip()} was imported instead of the wheel", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
