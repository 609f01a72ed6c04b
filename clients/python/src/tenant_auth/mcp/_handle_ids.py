"""How handles are written, and how they are bound."""

from __future__ import annotations

import re
import secrets

SESSION_PREFIX = "mcp-handle:"
"""Handles are bound as sessions with this prefix, which no session id of a client may have."""
KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
RANDOM_BYTES = 32
RANDOM = re.compile(r"[A-Za-z0-9_-]{43}")


def check_kind(kind: object) -> str:
    if not isinstance(kind, str):
        raise TypeError(f"kind is {type(kind).__name__}: give text, such as cart")
    if not KIND.fullmatch(kind):
        raise ValueError(f"kind is {kind!r}: give a lower-case letter, then up to 31 characters of a-z 0-9 _ -")
    return kind


def new_handle(kind: str) -> str:
    return f"{kind}_{secrets.token_urlsafe(RANDOM_BYTES)}"


def is_handle(text: object, kind: str) -> bool:
    """Reports whether this may be a handle of this kind."""
    prefix = f"{kind}_"
    return isinstance(text, str) and text.startswith(prefix) and RANDOM.fullmatch(text[len(prefix) :]) is not None


def session_id_of(handle: str) -> str:
    return SESSION_PREFIX + handle
