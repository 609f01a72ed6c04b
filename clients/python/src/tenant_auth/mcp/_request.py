"""What the function of a gate's `costs` gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._asgi_types import Scope


@dataclass(frozen=True, slots=True)
class McpRequest:
    """A request whose costs are asked for."""

    scope: Scope
    """The ASGI scope."""
    messages: Sequence[Mapping[str, Any]] = ()
    """With a policy: the JSON-RPC message of the body, or those of a batch."""
