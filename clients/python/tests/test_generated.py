"""The generated modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "generate_sync.py"), str(tmp_path)], check=True)
    generated = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert generated.keys() == {
        "_limit_calls.py",
        "client.py",
        "local_limiter.py",
        "recorder.py",
        "reservation.py",
        "verifier.py",
    }
    present = {name: (ROOT / "src" / "tenant_auth" / name).read_text() for name in generated}
    assert present == generated, "run tools/generate_sync.py"
