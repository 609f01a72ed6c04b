"""What a customer presented, which a guard needs to validate it again."""

from __future__ import annotations

from typing import Self

from .networks import IPAddress


class Credential:
    """A key, a session, or both, and the conditions under which they were admitted."""

    __slots__ = ("address", "key", "scopes", "session_id")

    def __init__(
        self, key: str | None, session_id: str | None, scopes: tuple[str, ...], address: IPAddress | None
    ) -> None:
        self.key = key
        self.session_id = session_id
        self.scopes = scopes
        self.address = address

    def __reduce__(self) -> str:
        raise TypeError("a credential is not serialised, because it contains a key")


class Presented:
    """Has the credential that was presented. It is no field, so that it is never printed, compared, copied, pickled or
    converted to JSON.
    """

    __slots__ = ("_credential",)
    _credential: Credential

    @property
    def _presented(self) -> Credential | None:
        return getattr(self, "_credential", None)

    def _present(self, credential: Credential) -> Self:
        object.__setattr__(self, "_credential", credential)
        return self
