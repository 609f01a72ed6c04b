"""Carries out a driver's commands: one JSON object a line comes in, one JSON object a line goes out.

Commands run at the same time; an answer has the id of its command.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from tenant_auth import AsyncClient, NearCache, Options, TenantAuthError

from .operations import OPERATIONS, error_of


def client_from_environment() -> AsyncClient:
    endpoints = [endpoint.strip() for endpoint in os.environ["TENANT_AUTH_ENDPOINTS"].split(",")]
    watch = os.environ.get("TENANT_AUTH_WATCH") != "off"
    near = None if os.environ.get("TENANT_AUTH_NEAR_CACHE") == "off" else NearCache(watch=watch)
    return AsyncClient(endpoints, Options(near_cache=near))


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def carry_out(client: AsyncClient, command: dict[str, Any]) -> None:
    ident = {"id": command.get("id")}
    operation = OPERATIONS.get(command.get("op", ""))
    if operation is None:
        say(ident | {"error": "UNSUPPORTED"})
        return
    try:
        say(ident | await operation(client, command))
    except TenantAuthError as error:
        say(ident | error_of(error))
    except (KeyError, TypeError, ValueError) as error:
        # The driver's command, not the client's doing.
        say(ident | {"error": "BAD_COMMAND", "reason": type(error).__name__, "fields": []})


async def main() -> None:
    running: set[asyncio.Task[None]] = set()
    async with client_from_environment() as client:
        say({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            if command.get("op") == "close":
                break
            task = asyncio.create_task(carry_out(client, command))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    say({"closed": True} | ({"id": command["id"]} if line and "id" in command else {}))


if __name__ == "__main__":
    asyncio.run(main())
