"""Records situations, each in a process of its own and several at a time, and makes fixtures of the recordings.

Called by `run`, which has the usage.
"""

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import fixture
from processes import END_WITH_PARENT
from recorder import record
from situations import SITUATIONS


@dataclass(frozen=True)
class Binaries:
    service: str
    database: str


async def record_all(chosen, options):
    """Returns the situations that were recorded to their end."""
    limit = asyncio.Semaphore(options.at_once)
    shared_options = [
        "--in-this-process",
        "--raw",
        options.raw,
        "--service",
        options.service,
        "--database",
        options.database,
    ]
    shared_options += ["--minutes", str(options.minutes)] if options.minutes is not None else []

    async def record_one(name):
        async with limit:
            process = await asyncio.create_subprocess_exec(
                *END_WITH_PARENT, sys.executable, __file__, name, *shared_options
            )
            return await process.wait() == 0

    succeeded = await asyncio.gather(*(record_one(name) for name in chosen))
    return [name for name, recorded in zip(chosen, succeeded, strict=True) if recorded]


def main():
    parser = argparse.ArgumentParser(prog="run")
    parser.add_argument("situations", nargs="+", metavar="all|SITUATION", choices=["all", *SITUATIONS])
    parser.add_argument("--minutes", type=float, help="trial run: no phase is longer, and no fixture is written")
    parser.add_argument("--at-once", type=int, default=2 * os.cpu_count(), help="situations in parallel")
    parser.add_argument("--raw", type=Path, required=True, help="where recordings are kept, one folder each")
    parser.add_argument("--only-fixtures", action="store_true", help="create fixtures from existing recordings")
    parser.add_argument("--service", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_this_process:
        binaries = Binaries(options.service, options.database)
        asyncio.run(record(SITUATIONS[options.situations[0]], options.raw, binaries, options.minutes))
        return
    chosen = list(SITUATIONS) if "all" in options.situations else options.situations
    recorded = chosen if options.only_fixtures else asyncio.run(record_all(chosen, options))
    if options.minutes is None:
        for name in recorded:
            print(fixture.write(options.raw / name))
    raise SystemExit(recorded != chosen)


if __name__ == "__main__":
    main()
