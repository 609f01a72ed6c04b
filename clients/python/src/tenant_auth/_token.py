"""The caller token, which may change while the client is in use."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from .errors import UnauthenticatedError
from .options import Token, TokenFile

log = logging.getLogger("tenant_auth")

MAX_LENGTH = 4_096
UNREADABLE_VERSION = (0, 0, 0)
"""The version of a file that cannot be read."""
WHITESPACE = "\ufeff \t\r\n\v\f"


def reader(token: Token | None) -> Callable[[], str | None]:
    """Returns a function that returns the current token. Rejects an invalid text or file at the start."""
    if token is None:
        return lambda: None
    if isinstance(token, TokenFile):
        return FileReader(Path(token.path)).read
    if isinstance(token, str):
        text = valid_token("token", token)
        return lambda: text
    return FunctionReader(token).read


def valid_token(name: str, token: object) -> str:
    """Returns the token without surrounding whitespace. The error does not show the token."""
    if not isinstance(token, str):
        raise ValueError(f"{name} is {type(token).__name__}: give text")
    text = token.strip(WHITESPACE)
    if not 1 <= len(text) <= MAX_LENGTH:
        raise ValueError(f"{name} has {len(text)} characters: give 1 to {MAX_LENGTH}")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError(f"{name} contains whitespace or a non-ASCII character: give exactly one token")
    return text


class FunctionReader:
    """Calls a function. If it fails or returns an invalid token, the last valid token stays in use."""

    def __init__(self, function: Callable[[], str]) -> None:
        self._function = function
        self._valid: str | None = None

    def read(self) -> str:
        try:
            given = self._function()
        except Exception as error:
            # The message of the error is not used because it may contain a secret.
            return self._last_valid(f"the function raised {type(error).__name__}")
        try:
            self._valid = valid_token("the function's token", given)
        except ValueError as error:
            return self._last_valid(str(error))
        return self._valid

    def _last_valid(self, reason: str) -> str:
        if self._valid is None:
            message = f"no caller token: {reason}"
            raise UnauthenticatedError(message, code="UNAUTHENTICATED", reason="NO_CALLER_TOKEN")
        log.warning("caller token not renewed, the last valid one stays in use: %s", reason)
        return self._valid


class FileReader:
    """Reads a file again after it was replaced. If its new content is invalid, the last valid token stays in use."""

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
                    # The version is stored first, so that invalid content is read only once.
                    self._version = version
                    self._token = self._load()
            except (OSError, ValueError) as error:
                if isinstance(error, ValueError) or self._version != UNREADABLE_VERSION:
                    reason = error.strerror if isinstance(error, OSError) else error
                    log.warning("caller token file not reloaded, the last valid token stays in use: %s", reason)
                if isinstance(error, OSError):
                    self._version = UNREADABLE_VERSION
            return self._token

    def _stat(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _load(self) -> str:
        try:
            text = self._path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{self._path} is not text in UTF-8") from None
        return valid_token(str(self._path), text)
