"""The commands of the conformance driver."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from tenant_auth import AsyncClient, DeniedError, TenantAuthError, UsageBucket, UsageEvent, Validation

from . import limits
from .answers import Answer, Command, decision, error_of, options, timeout


async def validate_key(client: AsyncClient, command: Command) -> Answer:
    scopes = command.get("scopes", [])
    return decision(await client.validate_key(command["key"], scopes, **options(command)))


async def require_key(client: AsyncClient, command: Command) -> Answer:
    try:
        principal = await client.require_key(command["key"], command.get("scopes", []), **options(command))
    except DeniedError as denial:
        return {"denied": denial.verdict.name, "missing_scopes": list(denial.missing_scopes)}
    return {"principal": {"tenant_id": principal.tenant_id, "key_id": principal.key_id}}


async def load(client: AsyncClient, command: Command) -> Answer:
    """Makes calls at a fixed rate, whether or not earlier ones have completed."""
    calls, interval = command["calls"], command["interval_ms"] / 1e3
    scopes, limit = command.get("scopes", []), timeout(command)
    permits = asyncio.Semaphore(command.get("concurrency") or calls or 1)
    verdicts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    latencies = [0.0] * calls

    async def call(index: int) -> None:
        async with permits:
            began = time.monotonic()
            try:
                validation = await client.validate_key(command["key"], scopes, timeout=limit)
                verdicts[validation.verdict.name] += 1
            except TenantAuthError as error:
                errors[error.code] += 1
            latencies[index] = round((time.monotonic() - began) * 1e3, 3)

    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for index in range(calls):
            await asyncio.sleep(max(0.0, start + index * interval - time.monotonic()))
            group.create_task(call(index))
    return {"ok": sum(verdicts.values()), "verdicts": verdicts, "errors": errors, "latency_ms": latencies}


async def record_many(client: AsyncClient, command: Command) -> Answer:
    rejected: list[UsageEvent] = []
    async with client.usage_recorder(on_rejected=lambda event, _error: rejected.append(event)) as recorder:
        for _ in range(command["count"]):
            recorder.record(command["tenant_id"], command["metric"], 1)
        await recorder.flush(timeout(command) or 10.0)
        unsent = sum(len(batch.events) for batch in await recorder.close())
    return {"accepted": command["count"] - len(rejected) - unsent, "rejected": len(rejected)}


async def validate_key_concurrently(client: AsyncClient, command: Command) -> Answer:
    limit = timeout(command)
    calls = [client.validate_key(command["key"], timeout=limit) for _ in range(command["times"])]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    verdicts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, Validation):
            verdicts[outcome.verdict.name] += 1
        elif isinstance(outcome, TenantAuthError):
            errors[outcome.code] += 1
        else:
            raise outcome
    return {"verdicts": verdicts, "errors": errors}


async def validate_keys(client: AsyncClient, command: Command) -> Answer:
    outcomes = await client.validate_keys(command["keys"], command.get("scopes", []), **options(command))
    return {"items": [decision(one) if isinstance(one, Validation) else error_of(one) for one in outcomes]}


async def bind_session(client: AsyncClient, command: Command) -> Answer:
    binding = await client.bind_session(
        command["session_id"],
        command["key"],
        command["ttl_ms"] / 1e3,
        attributes=command.get("attributes"),
        **options(command),
    )
    session = binding.session
    return {
        "verdict": binding.verdict.name,
        "already_bound": binding.already_bound,
        "tenant_id": session.tenant_id if session else "",
        "key_id": session.key_id if session else "",
    }


async def validate_session(client: AsyncClient, command: Command) -> Answer:
    validation = await client.validate_session(
        command["session_id"], command.get("key"), command.get("scopes", []), **options(command)
    )
    return decision(validation) | {
        "presented_key_id": validation.presented_key_id,
        "attributes": dict(validation.attributes),
    }


async def unbind_session(client: AsyncClient, command: Command) -> Answer:
    was_bound = await client.unbind_session(command["session_id"], command["tenant_id"], timeout=timeout(command))
    return {"was_bound": was_bound}


async def record_usage(client: AsyncClient, command: Command) -> Answer:
    events = [UsageEvent(event["tenant_id"], event["metric"], event["quantity"]) for event in command["events"]]
    receipt = await client.record_usage(events, command["request_id"], timeout=timeout(command))
    return {
        "accepted": receipt.accepted,
        "rejected": [{"index": one.index, "error": one.error.code} for one in receipt.rejected],
        "already_recorded": receipt.already_recorded,
    }


async def query_usage(client: AsyncClient, command: Command) -> Answer:
    def moment(name: str) -> datetime:
        return datetime.fromtimestamp(command[name] / 1e3, UTC)

    sums = client.query_usage(
        command["tenant_id"],
        moment("start_ms"),
        moment("end_ms"),
        metric=command.get("metric") or "",
        bucket=UsageBucket[command.get("bucket", "DAY")],
        timeout=timeout(command),
    )
    return {
        "sums": [
            {"metric": s.metric, "bucket_start_ms": round(s.bucket_start.timestamp() * 1e3), "quantity": s.quantity}
            async for s in sums
        ]
    }


async def watch_state(client: AsyncClient, _command: Command) -> Answer:
    return {"live": client.watch_state.live, "revision": client.watch_state.revision}


async def server_info(client: AsyncClient, command: Command) -> Answer:
    return {"version": (await client.server_info(timeout=timeout(command))).version}


OPERATIONS: dict[str, Callable[[AsyncClient, Command], Awaitable[Answer]]] = {
    operation.__name__: operation
    for operation in (
        validate_key,
        require_key,
        load,
        record_many,
        validate_key_concurrently,
        validate_keys,
        bind_session,
        validate_session,
        unbind_session,
        record_usage,
        query_usage,
        watch_state,
        server_info,
        limits.consume,
        limits.consume_many,
        limits.reserve,
        limits.settle,
        limits.cancel,
        limits.limit_state,
    )
}
