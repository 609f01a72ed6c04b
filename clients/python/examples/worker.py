"""A worker that records the usage of its jobs. Jobs are JSON lines such as `{"key": "ta_…", "pages": 3}`.

echo "{\\"key\\": \\"$KEY\\", \\"pages\\": 3}" | python examples/worker.py

Usage that could not be recorded is stored in a spool file and sent at the next start with the same request ids, so that
no event is lost or counted twice.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from tenant_auth import Client, TenantAuthError, UnsentUsage, UsageEvent


def work(client: Client, lines: Iterable[str]) -> list[UnsentUsage]:
    """Processes the jobs. Returns the usage that could not be recorded."""
    recorder = client.usage_recorder()
    for number, line in enumerate(lines, 1):
        job = json.loads(line)
        try:
            validation = client.validate_key(job["key"])
        except TenantAuthError as error:
            # A real worker would return the job to its queue, because the key could not be decided.
            print(f"job {number}: undecided, {error}")
            continue
        if not validation.is_valid:
            print(f"job {number}: {validation.verdict}")
            continue
        recorder.record(validation.tenant_id, "pages.rendered", job["pages"])
        print(f"job {number}: {job['pages']} pages for {validation.tenant_id}")
    return recorder.close()


def resend(client: Client, spool: Path) -> None:
    if not spool.exists():
        return
    unsent = []
    for line in spool.read_text().splitlines():
        batch = json.loads(line)
        events = [UsageEvent(**e | {"occurred_at": datetime.fromisoformat(e["occurred_at"])}) for e in batch["events"]]
        try:
            client.record_usage(events, batch["request_id"])
        except TenantAuthError as error:
            print(f"usage kept in {spool}: {error}")
            unsent.append(line + "\n")
    spool.write_text("".join(unsent))


def save(unsent: list[UnsentUsage], spool: Path) -> None:
    with spool.open("a") as file:
        for batch in unsent:
            events = [asdict(event) for event in batch.events]
            file.write(
                json.dumps({"request_id": batch.request_id, "events": events}, default=datetime.isoformat) + "\n"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenant-auth", default="127.0.0.1:50051")
    parser.add_argument("--spool", type=Path, default=Path("usage.jsonl"))
    arguments = parser.parse_args()
    with Client(arguments.tenant_auth) as client:
        resend(client, arguments.spool)
        save(work(client, sys.stdin), arguments.spool)


if __name__ == "__main__":
    main()
