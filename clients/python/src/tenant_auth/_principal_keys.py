"""The public keys that verify principal tokens: when they are fetched, and which answers are used."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _jose, _status
from .clock import Clock
from .errors import TenantAuthError, UnavailableError

if TYPE_CHECKING:
    import jwt

log = logging.getLogger("tenant_auth")

MAX_AGE = 300.0
"""Age in seconds from which the keys are fetched again in the background."""
MIN_INTERVAL = 5.0
"""Minimum time between two fetches, in seconds: anyone can send tokens with unknown keys."""
MIN_INTERVAL_WITHOUT_KEYS = 1.0
"""The same as long as there are no keys, without which no token can be decided."""

Fetch = Callable[[float], Awaitable[Any]]
"""Calls GetPrincipalKeys and returns its response. The argument is the timeout in seconds."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one answer, and the issuer that they belong to."""

    issuer: str
    by_id: Mapping[str, jwt.PyJWK]
    fetched_at: float


class PrincipalKeys:
    """The current keys. Belongs to one event loop, except for `current`."""

    def __init__(self, clock: Clock, fetch: Fetch) -> None:
        self._clock = clock
        self._fetch = fetch
        self._keys: KeySet | None = None
        self._tried_at = -math.inf
        self._failure: TenantAuthError | None = None
        """The error of the last fetch, if it has failed."""
        self._fetching: asyncio.Task[None] | None = None

    def current(self, kid: str) -> KeySet | None:
        """Returns the keys if they have this one and need no fetch. May be called from any thread."""
        keys = self._keys
        if keys is None or kid not in keys.by_id or self._clock.monotonic() - keys.fetched_at > MAX_AGE:
            return None
        return keys

    async def get(self, kid: str, timeout: float) -> KeySet:
        """Returns the keys. Waits for a fetch only if this key is unknown.

        Raises the error of the last fetch if it has failed and the key is unknown: the service may have it by now.
        """
        if self._fetching is None and self._is_due(kid):
            self._tried_at = self._clock.monotonic()
            self._fetching = asyncio.create_task(self._replace(timeout))
            self._fetching.add_done_callback(self._fetched)
        fetching = self._fetching
        if fetching is not None and not self._has(kid):
            # Unlike `await`, this does not end the fetch for the others if this caller gives up.
            done, _ = await asyncio.wait({fetching}, timeout=timeout)
            if not done:
                raise _status.deadline_exceeded()
            if fetching.cancelled():
                # With the client's event loop. Whether the service has the key remains unknown.
                raise _status.closed_error()
            fetching.result()
        if self._failure is not None and not self._has(kid):
            raise self._failure.copy()
        if self._keys is None:
            # The fetch of another caller was cancelled.
            raise _status.closed_error()
        return self._keys

    def _has(self, kid: str) -> bool:
        return self._keys is not None and kid in self._keys.by_id

    def _is_due(self, kid: str) -> bool:
        passed = self._clock.monotonic() - self._tried_at
        if self._keys is None:
            return passed >= MIN_INTERVAL_WITHOUT_KEYS
        return passed >= MIN_INTERVAL and self.current(kid) is None

    async def _replace(self, timeout: float) -> None:
        """Fetches the keys. An answer without usable keys never replaces keys: it is a failure like any other."""
        try:
            reply = await self._fetch(timeout)
            self._keys = key_set(reply.jwks, reply.issuer, self._tried_at)
            self._failure = None
        except TenantAuthError as error:
            self._failure = error
            if self._keys is not None:
                log.warning("the principal keys could not be fetched again, those in use stay: %s", error)

    def _fetched(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None


def key_set(jwks: str, issuer: str, fetched_at: float) -> KeySet:
    """Reads a JSON Web Key Set. Raises `UnavailableError` if it has no usable key."""
    try:
        document = json.loads(jwks)
    except (ValueError, RecursionError):
        document = None
    listed = document.get("keys") if isinstance(document, dict) else None
    keys = [_jose.public_key(jwk) for jwk in listed] if isinstance(listed, list) else []
    by_id = {str(key.key_id): key for key in keys if key is not None}
    if not by_id or not issuer:
        message = "the service has no usable principal keys: does it sign principal tokens?"
        raise UnavailableError(message, code="UNAVAILABLE", reason="NO_PRINCIPAL_KEYS")
    return KeySet(issuer, by_id, fetched_at)
