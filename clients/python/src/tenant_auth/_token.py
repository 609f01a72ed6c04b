"""The caller token, which may change while the client lives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from .options import Token, TokenFile


def reader(token: Token | None) -> Callable[[], str | None]:
    """What tells the token of this moment."""
    if token is None:
        return lambda: None
    if isinstance(token, TokenFile):
        return FileReader(Path(token.path)).read
    if callable(token):
        return token
    text = token
    return lambda: text


class FileReader:
    """Reads a file again when it was replaced. Fails at the start only: later the last good token is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version = self._stat()
        self._token = self._load()

    def read(self) -> str:
        with self._lock:
            try:
                version = self._stat()
                if version != self._version:
                    self._token, self._version = self._load(), version
            except (OSError, ValueError):
                # In the middle of a rotation: the next call looks again.
                pass
            return self._token

    def _stat(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _load(self) -> str:
        token = self._path.read_text(encoding="utf-8").strip()
        if not token:
            raise ValueError(f"{self._path} holds no token")
        return token
