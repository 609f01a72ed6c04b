"""The caller token, which may change while the client lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from .errors import UnauthenticatedError
from .options import Token, TokenFile

log = logging.getLogger("tenant_auth")

LONGEST = 4_096
GONE = (0, 0, 0)
"""The version of a file that cannot be read."""
BLANKS = "\ufeff \t\r\n\v\f"


def reader(token: Token | None) -> Callable[[], str | None]:
    """What tells the token of this moment. A text or a file that is wrong from the start is refused."""
    if token is None:
        return lambda: None
    if isinstance(token, TokenFile):
        return FileReader(Path(token.path)).read
    if isinstance(token, str):
        text = usable("token", token)
        return lambda: text
    return FunctionReader(token).read


def usable(name: str, token: object) -> str:
    """The token without blanks around it. The error does not show it."""
    if not isinstance(token, str):
        raise ValueError(f"{name} is {type(token).__name__}: give text")
    text = token.strip(BLANKS)
    if not 1 <= len(text) <= LONGEST:
        raise ValueError(f"{name} has {len(text)} characters: give 1 to {LONGEST}")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError(
            f"{name} holds a blank, a line break or a character beyond ASCII: give one token, nothing else"
        )
    return text


class FunctionReader:
    """Calls a function. When it fails or answers junk, the last good token stays in use."""

    def __init__(self, function: Callable[[], str]) -> None:
        self._function = function
        self._good: str | None = None

    def read(self) -> str:
        try:
            given = self._function()
        except Exception as error:
            # Its message may show a secret.
            return self._last_good(f"the function raised {type(error).__name__}")
        try:
            self._good = usable("the function's token", given)
        except ValueError as error:
            return self._last_good(str(error))
        return self._good

    def _last_good(self, why: str) -> str:
        if self._good is None:
            message = f"there is no caller token: {why}"
            raise UnauthenticatedError(message, code="UNAUTHENTICATED", reason="NO_CALLER_TOKEN")
        log.warning("the caller token could not be renewed, the last one stays in use: %s", why)
        return self._good


class FileReader:
    """Reads a file again when it was replaced. When it is wrong then, the last good token stays in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._version = self._stat()
            self._token = self._load()
        except OSError as error:
            raise ValueError(f"token: {path} cannot be read: {error.strerror or error}") from None

    def read(self) -> str:
        with self._lock:
            try:
                version = self._stat()
                if version != self._version:
                    # Whatever it holds, it is looked at once.
                    self._version = version
                    self._token = self._load()
            except (OSError, ValueError) as error:
                if isinstance(error, ValueError) or self._version != GONE:
                    why = error.strerror if isinstance(error, OSError) else error
                    log.warning("the caller token could not be read again, the last one stays in use: %s", why)
                if isinstance(error, OSError):
                    self._version = GONE
            return self._token

    def _stat(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _load(self) -> str:
        try:
            text = self._path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{self._path} is not text in UTF-8") from None
        return usable(str(self._path), text)
