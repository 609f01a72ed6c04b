"""Helpers for tests of the near cache."""

from __future__ import annotations

from typing import Any

from tenant_auth import Provenance, SessionValidation, Source, Validation, Verdict
from tenant_auth._near_cache import NearCache, Snapshot
from tenant_auth.testing import ManualClock


def validation(
    verdict: Verdict = Verdict.VALID,
    *,
    revision: int = 10,
    cacheable_for: float = 5.0,
    watched: float = 60.0,
    **more: Any,
) -> Validation:
    known: dict[str, Any] = {} if verdict is Verdict.UNKNOWN else {"tenant_id": "acme", "key_id": "key_1"}
    provenance = Provenance(
        source=Source.FRESH, age=1.0, revision=revision, cacheable_for=cacheable_for, cacheable_while_watched=watched
    )
    return Validation(verdict=verdict, provenance=provenance, **(known | more))


def session(verdict: Verdict = Verdict.VALID, **more: Any) -> SessionValidation:
    known = {"tenant_id": "acme", "key_id": "key_1"}
    return SessionValidation(verdict=verdict, provenance=validation().provenance, **(known | more))


def put(near: NearCache, name: str = "k", snapshot: Snapshot | None = None, **more: Any) -> bytes:
    digest = near.digest("key", name)
    near.put(digest, snapshot or near.snapshot(), validation(**more))
    return digest


def start_stream(near: NearCache, revision: int = 10) -> None:
    """Starts the stream at a revision."""
    near.watch_opening()
    near.heartbeat(revision)


def send_heartbeats(near: NearCache, clock: ManualClock, seconds: int, revision: int = 10) -> None:
    """Sends heartbeats for a number of seconds."""
    for _ in range(seconds):
        clock.advance(1)
        near.heartbeat(revision)
