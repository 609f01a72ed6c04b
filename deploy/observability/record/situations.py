"""What is recorded. Each situation begins with normal operation, except for what its `traffic` and `settings` say.

A phase lasts longer than the `for:` of the alerts that should fire in it, and the time after it is long enough to
show that they end. ../recorded/SITUATIONS.md gives times relative to the marks.
"""

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from traffic import ORDINARY, QUIET, TrafficMix

SITUATIONS = {}


@dataclass(frozen=True)
class Situation:
    name: str
    script: Callable[..., Awaitable[None]]
    replicas: int = 2
    keys: int = 60
    traffic: TrafficMix = ORDINARY
    # Whether replicas reach the database through a proxy that can be slow.
    proxied: bool = False
    settings: dict = field(default_factory=dict)


def situation(**options):
    def register(script):
        SITUATIONS[script.__name__] = Situation(script.__name__, script, **options)
        return script

    return register


async def database_fault(run, *commands, before=3, during=12, after=13):
    """Normal operation, then a fault of the database, then normal operation again."""
    await run.minutes(before)
    for command in commands:
        await run.database.command(command)
    run.mark("begins")
    await run.minutes(during)
    await run.database.command("clear")
    run.mark("ends")
    await run.minutes(after)


@situation(traffic=QUIET)
async def quiet_hour(run):
    """An occasional validation."""
    await run.minutes(62)


@situation()
async def ordinary_hour(run):
    """A few calls of each kind a second."""
    await run.minutes(62)


LOAD = TrafficMix(
    validations=60,
    batches=3,
    batch_size=100,
    session_checks=15,
    binds=2,
    usage=8,
    usage_events=20,
    rotations=0.2,
    watchers=20,
)


@situation(keys=600, traffic=LOAD)
async def load(run):
    """As much load as one client process can send to replicas that share the machine with others."""
    await run.minutes(25)


@situation()
async def flood(run):
    """Made-up keys beyond the limit of unknown lookups, and unknown callers without a token."""
    await run.minutes(3)
    run.mark("begins")
    await run.traffic.stop()
    run.traffic.start(replace(ORDINARY, unknown_batches=4, unauthenticated=20))
    await run.minutes(13)
    await run.traffic.stop()
    run.traffic.start(ORDINARY)
    run.mark("ends")
    await run.minutes(13)


@situation(replicas=3)
async def rolling_restart(run):
    """Every replica in turn, by SIGTERM, twice within half an hour: a release, and the release that fixes it."""
    await run.minutes(5)
    for release in ("first", "second"):
        run.mark(release)
        for name in run.replicas:
            await run.restart(name)
            await run.minutes(0.5)
        await run.minutes(8)


@situation()
async def outage_refused(run):
    """Connections to the database are refused."""
    await run.minutes(3)
    await run.database.command("stop")
    run.mark("begins")
    await run.minutes(12)
    await run.database.command("start")
    run.mark("ends")
    await run.minutes(13)


@situation()
async def outage_hanging(run):
    """The database accepts every request and does not respond."""
    await database_fault(run, "fault all hang")


@situation()
async def outage_restarts(run):
    """Replicas start while the database is unreachable: first one of two, then the other."""
    await run.minutes(3)
    await run.database.command("stop")
    run.mark("begins")
    await run.minutes(1)
    await run.restart("a", ready=False)
    run.mark("one")
    await run.minutes(12)
    await run.restart("b", ready=False)
    run.mark("both")
    await run.minutes(4)
    await run.database.command("start")
    run.mark("ends")
    await run.minutes(12)


@situation()
async def writes_blocked(run):
    """A database over its quota: writes are rejected, reads are answered."""
    await database_fault(run, "fault writes blocked")


@situation()
async def writes_stalled(run):
    """Another client holds the write lock: writes wait, reads are answered."""
    await run.minutes(3)
    await run.database.command("hold-writes on")
    run.mark("begins")
    await run.minutes(12)
    await run.database.command("hold-writes off")
    run.mark("ends")
    await run.minutes(13)


@situation(proxied=True)
async def replica_slow(run):
    """The network between one of two replicas and the database: slow, then slower than a lookup's timeout, then
    normal."""
    await run.minutes(5)
    run.proxies["b"].delay = 0.15
    run.mark("slow")
    await run.minutes(12)
    run.proxies["b"].delay = 0.9
    run.mark("late")
    await run.minutes(12)
    run.proxies["b"].delay = 0.0
    run.mark("ends")
    await run.minutes(15)


@situation()
async def credentials_refused(run):
    """The database's token has expired: everything is 401."""
    await database_fault(run, "fault all unauthorized")


@situation()
async def throttled(run):
    """The database asks for fewer calls: everything is 429."""
    await database_fault(run, "fault all throttled")


@situation()
async def replica_lost(run):
    """One of two is killed and stays down."""
    await run.minutes(5)
    await run.replicas["b"].end()
    run.mark("begins")
    await run.minutes(12)
    await run.replicas["b"].start()
    run.mark("ends")
    await run.minutes(10)


@situation()
async def crash_loop(run):
    """One of two is killed four times, two minutes apart."""
    await run.minutes(5)
    for number in ("first", "second", "third", "fourth"):
        await run.restart("b", signal.SIGKILL)
        run.mark(number)
        await run.minutes(2)
    await run.minutes(36)


@situation()
async def clock_off(run):
    """The database's clock, as replicas see it: seven seconds ahead, then three minutes, then right."""
    await run.minutes(3)
    await run.database.command("clock 7")
    run.mark("seconds")
    await run.minutes(9)
    await run.database.command("clock 180")
    run.mark("minutes")
    await run.minutes(6)
    await run.database.command("clock 0")
    run.mark("ends")
    await run.minutes(6)


@situation()
async def reload_refused(run):
    """The callers file is replaced by one that cannot be read, and repaired."""
    good = run.callers.read_text()
    await run.minutes(3)
    run.callers.write_text("[[caller]\n")
    run.mark("begins")
    await run.minutes(9)
    run.callers.write_text(good)
    run.mark("ends")
    await run.minutes(6)
