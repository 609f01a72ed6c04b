"""The commands about limits."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from typing import Any

from tenant_auth import (
    AsyncClient,
    AsyncReservation,
    ConsumeRequest,
    Consumption,
    KeyQuery,
    LimitCredential,
    ReservationExpiry,
    SessionQuery,
    SessionValidation,
)

from .answers import Answer, Command, decision, error_of, timeout


class Amounts(Mapping[str, int]):
    """Amounts by metric. A case may repeat a metric, which no dict can."""

    def __init__(self, given: list[dict[str, Any]]) -> None:
        self._pairs: list[tuple[str, int]] = [(one["metric"], one["amount"]) for one in given]

    def __getitem__(self, metric: str) -> int:
        return dict(self._pairs)[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(self._pairs)

    def items(self) -> ItemsView[str, int]:
        return self._pairs  # type: ignore[return-value]


def milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e3)


def credential(command: Command) -> LimitCredential:
    more = {"scopes": command.get("scopes", []), "client_address": command.get("client_address")}
    if "session_id" in command:
        return SessionQuery(command["session_id"], command.get("key"), **more)
    return KeyQuery(command["key"], **more)


def decided(made: Consumption | AsyncReservation) -> Answer:
    answer = decision(made.validation) | {"verdict": made.verdict.name, "allowed": made.allowed}
    if isinstance(made.validation, SessionValidation):
        answer["presented_key_id"] = made.validation.presented_key_id
        answer["attributes"] = dict(made.validation.attributes)
    answer["limits"] = [
        {
            "name": one.name,
            "metric": one.metric,
            "limit": one.limit,
            "remaining": one.remaining,
            "window_ms": milliseconds(one.window),
            "reset_after_ms": milliseconds(one.reset_after),
            "retry_after_ms": milliseconds(one.retry_after),
            "decided_by": one.decided_by.name,
            "exceeded": one.exceeded,
            "shadow": one.shadow,
        }
        for one in made.limits
    ]
    return answer


def consumed(made: Consumption) -> Answer:
    return decided(made) | {"already_consumed": made.already_consumed}


async def consume(client: AsyncClient, command: Command) -> Answer:
    costs, consume_id = Amounts(command["costs"]), command.get("consume_id")
    return consumed(await client.consume(credential(command), costs, consume_id, timeout=timeout(command)))


async def consume_many(client: AsyncClient, command: Command) -> Answer:
    requests = [
        ConsumeRequest(credential(one), Amounts(one["costs"]), one.get("consume_id")) for one in command["requests"]
    ]
    outcomes = await client.consume_many(requests, timeout=timeout(command))
    return {"items": [consumed(one) if isinstance(one, Consumption) else error_of(one) for one in outcomes]}


async def reserve(client: AsyncClient, command: Command) -> Answer:
    expires_in = command.get("expires_in_ms")
    made = await client.reserve(
        credential(command),
        Amounts(command["costs"]),
        reservation_id=command.get("reservation_id"),
        expires_in=None if expires_in is None else expires_in / 1e3,
        on_expiry=ReservationExpiry[command.get("on_expiry", "RELEASE")],
        timeout=timeout(command),
    )
    return decided(made) | {
        "reservation_id": made.reservation_id,
        "expires_in_ms": milliseconds(made.expires_in),
        "already_reserved": made.already_reserved,
    }


async def settle(client: AsyncClient, command: Command) -> Answer:
    actual = Amounts(command.get("actual", []))
    made = await client.settle_reservation(command["reservation_id"], actual, timeout=timeout(command))
    return {
        "state": made.state.name,
        "already_settled": made.already_settled,
        "limits": [
            {
                "name": one.name,
                "metric": one.metric,
                "reserved": one.reserved,
                "charged": one.charged,
                "exceeded_by": one.exceeded_by,
            }
            for one in made.limits
        ],
    }


async def cancel(client: AsyncClient, command: Command) -> Answer:
    return {"state": (await client.cancel_reservation(command["reservation_id"], timeout=timeout(command))).name}


async def limit_state(client: AsyncClient, command: Command) -> Answer:
    states = await client.limit_state(
        tenant_id=command.get("tenant_id"), key_id=command.get("key_id"), timeout=timeout(command)
    )
    return {
        "limits": [
            {
                "name": one.limit.name,
                "metric": one.limit.metric,
                "used": one.used,
                "leased": one.leased,
                "reserved": one.reserved,
                "unaccounted": one.unaccounted,
                "remaining": one.remaining,
                "reset_after_ms": milliseconds(one.reset_after),
            }
            for one in states
        ]
    }
