"""What this client changed itself: its near-cache must not answer from before."""

from __future__ import annotations

from typing import Any

from ._near_cache import About, NearCache

SUBJECTS = {"key_id": About.KEY, "tenant_id": About.TENANT, "session_id": About.SESSION}
# These change no key, tenant or session.
WITHOUT_EFFECT = frozenset({"RecordUsageRequest"})


def forget(near: NearCache, request: Any) -> None:
    """A write about these subjects was made, or may have been made."""
    if request.DESCRIPTOR.name in WITHOUT_EFFECT:
        return
    named = [(about, getattr(request, field, "")) for field, about in SUBJECTS.items()]
    # A session is its own subject: that of its tenant would end what is known of all others.
    if any(about is About.SESSION and name for about, name in named):
        named = [(about, name) for about, name in named if about is About.SESSION]
    near.forget([(about, name) for about, name in named if name])
