"""Runs the commands of the conformance driver: one JSON object per line in, one JSON object per line out.

Commands run concurrently; an answer has the id of its command. The environment configures the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from tenant_auth import AsyncClient, NearCache, Options, TenantAuthError, Tls, TokenFile

from .answers import error_of
from .operations import OPERATIONS


def client_from_environment() -> AsyncClient:
    given = os.environ.get
    watch = given("TENANT_AUTH_WATCH") != "off"
    near = None if given("TENANT_AUTH_NEAR_CACHE") == "off" else NearCache(watch=watch)
    ca, cert, key = (given(f"TENANT_AUTH_TLS_{name}_FILE") or None for name in ("CA", "CERT", "KEY"))
    name, file = given("TENANT_AUTH_TLS_SERVER_NAME") or None, given("TENANT_AUTH_TOKEN_FILE")
    more: dict[str, Any] = {}
    if ca or cert or key or name:
        more["tls"] = Tls(ca=ca, cert=cert, key=key, server_name=name)
    if file:
        more["token"] = TokenFile(file)
    elif "TENANT_AUTH_TOKEN" in os.environ:
        more["token"] = os.environ["TENANT_AUTH_TOKEN"]
    if milliseconds := given("TENANT_AUTH_TIMEOUT_MS"):
        more["timeout"] = float(milliseconds) / 1e3
    return AsyncClient(given("TENANT_AUTH_ENDPOINTS") or [], Options(near_cache=near, **more))


def print_answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def run_command(client: AsyncClient, command: dict[str, Any]) -> None:
    ident = {"id": command.get("id")}
    operation = OPERATIONS.get(command.get("op", ""))
    if operation is None:
        print_answer(ident | {"error": "UNSUPPORTED"})
        return
    try:
        print_answer(ident | await operation(client, command))
    except TenantAuthError as error:
        print_answer(ident | error_of(error))
    except (KeyError, TypeError, ValueError) as error:
        # An invalid command, not a failure of the client.
        print_answer(ident | {"error": "BAD_COMMAND", "reason": type(error).__name__, "fields": []})


async def main() -> int:
    running: set[asyncio.Task[None]] = set()
    try:
        made = client_from_environment()
    except (TypeError, ValueError) as error:
        print_answer({"ready": False, "error": str(error)})
        return 2
    async with made as client:
        print_answer({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            if command.get("op") == "close":
                break
            task = asyncio.create_task(run_command(client, command))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    print_answer({"closed": True} | ({"id": command["id"]} if line and "id" in command else {}))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
