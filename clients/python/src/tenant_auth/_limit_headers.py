"""The response headers about limits, of draft-ietf-httpapi-ratelimit-headers-10."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ._asgi_types import Message, Send
from .limits import LimitDecision

STARTS = frozenset({"http.response.start", "websocket.accept"})


def limit_headers(limits: Iterable[LimitDecision]) -> dict[str, str]:
    """Returns `RateLimit-Policy` and `RateLimit`, with one item per limit, or nothing if there are no limits.

    Shadow limits are left out. Seconds are rounded up.
    """
    shown = [one for one in limits if not one.shadow]
    if not shown:
        return {}
    return {
        "RateLimit-Policy": ", ".join(item(one.name, q=one.limit, w=one.window) for one in shown),
        "RateLimit": ", ".join(item(one.name, r=one.remaining, t=one.reset_after) for one in shown),
    }


def item(name: str, **parameters: float | None) -> str:
    """Returns an item of a structured field. A parameter without a value is left out."""
    known = "".join(f";{key}={math.ceil(value)}" for key, value in parameters.items() if value is not None)
    return f'"{name}"{known}'


def with_limit_headers(limits: Iterable[LimitDecision], send: Send) -> Send:
    """Adds the headers to a response."""
    encoded = [(name.lower().encode(), value.encode()) for name, value in limit_headers(limits).items()]
    if not encoded:
        return send

    async def send_with(message: Message) -> None:
        if message["type"] in STARTS:
            message = {**message, "headers": [*message.get("headers", ()), *encoded]}
        await send(message)

    return send_with
