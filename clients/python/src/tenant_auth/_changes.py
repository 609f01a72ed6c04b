"""Invalidates the near cache after changes made by this client."""

from __future__ import annotations

from typing import Any

from ._near_cache import NearCache, SubjectKind

SUBJECTS = {"key_id": SubjectKind.KEY, "tenant_id": SubjectKind.TENANT, "session_id": SubjectKind.SESSION}
# These requests change no key, tenant or session.
WITHOUT_EFFECT = frozenset(
    {
        "RecordUsageRequest",
        "ConsumeRequest",
        "BatchConsumeRequest",
        "ReserveRequest",
        "SettleRequest",
        "CancelRequest",
        "SetLimitRequest",
        "DeleteLimitRequest",
        "AddCreditsRequest",
    }
)


def invalidate(near: NearCache, request: Any) -> None:
    """Invalidates the subjects of a write that was made, or may have been made."""
    if request.DESCRIPTOR.name in WITHOUT_EFFECT:
        return
    named = [(kind, getattr(request, field, "")) for field, kind in SUBJECTS.items()]
    # The session is the narrowest subject: its tenant would invalidate all other sessions too.
    if any(kind is SubjectKind.SESSION and name for kind, name in named):
        named = [(kind, name) for kind, name in named if kind is SubjectKind.SESSION]
    near.invalidate_local([(kind, name) for kind, name in named if name])
