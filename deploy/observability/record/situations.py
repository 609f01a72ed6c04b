"""What is recorded. Each situation begins when all is well, except for what its `traffic` and `settings` say.

A phase lasts longer than the `for:` of the alerts that should fire in it, and the time after it is long enough to show that
they end. ../recorded/SITUATIONS.md gives times relative to the marks.
"""

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from traffic import ORDINARY, QUIET, Mix

SITUATIONS = {}


@dataclass(frozen=True)
class Situation:
    name: str
    script: Callable[..., Awaitable[None]]
    replicas: int = 2
    keys: int = 60
    traffic: Mix = ORDINARY
    # Whether replicas reach the database through a proxy that can be slow.
    proxied: bool = False
    settings: dict = field(default_factory=dict)


def situation(**options):
    def note(script):
        SITUATIONS[script.__name__] = Situation(script.__name__, script, **options)
        return script

    return note


async def database_fault(stage, *lines, well=3, ill=12, after=13):
    """Normal operation, then a fault of the database, then normal operation again."""
    await stage.minutes(well)
    for line in lines:
        await stage.database.say(line)
    stage.mark("begins")
    await stage.minutes(ill)
    await stage.database.say("clear")
    stage.mark("ends")
    await stage.minutes(after)


@situation(traffic=QUIET)
async def quiet_hour(stage):
    """An occasional validation."""
    await stage.minutes(62)


@situation()
async def ordinary_hour(stage):
    """A few calls of each kind a second."""
    await stage.minutes(62)


LOAD = Mix(
    validations=60, batches=3, batch_size=100, session_checks=15, binds=2, usage=8, usage_events=20, rotations=0.2, watchers=20
)


@situation(keys=600, traffic=LOAD)
async def load(stage):
    """As much load as one client process can send to replicas that share the machine with others."""
    await stage.minutes(25)


@situation()
async def flood(stage):
    """Made-up keys beyond the guess limit, and unknown callers without a token."""
    await stage.minutes(3)
    stage.mark("begins")
    await stage.traffic.cease()
    stage.traffic.begin(replace(ORDINARY, guesses=4, strangers=20))
    await stage.minutes(13)
    await stage.traffic.cease()
    stage.traffic.begin(ORDINARY)
    stage.mark("ends")
    await stage.minutes(13)


@situation(replicas=3)
async def rolling_restart(stage):
    """Every replica in turn, by SIGTERM, twice within half an hour: a release, and the release that fixes it."""
    await stage.minutes(5)
    for release in ("first", "second"):
        stage.mark(release)
        for name in stage.replicas:
            await stage.restart(name)
            await stage.minutes(0.5)
        await stage.minutes(8)


@situation()
async def outage_refused(stage):
    """Connections to the database are refused."""
    await stage.minutes(3)
    await stage.database.say("stop")
    stage.mark("begins")
    await stage.minutes(12)
    await stage.database.say("start")
    stage.mark("ends")
    await stage.minutes(13)


@situation()
async def outage_hanging(stage):
    """The database accepts every request and does not respond."""
    await database_fault(stage, "fault all hang")


@situation()
async def outage_restarts(stage):
    """Replicas start while the database is unreachable: first one of two, then the other."""
    await stage.minutes(3)
    await stage.database.say("stop")
    stage.mark("begins")
    await stage.minutes(1)
    await stage.restart("a", ready=False)
    stage.mark("one")
    await stage.minutes(12)
    await stage.restart("b", ready=False)
    stage.mark("both")
    await stage.minutes(4)
    await stage.database.say("start")
    stage.mark("ends")
    await stage.minutes(12)


@situation()
async def writes_blocked(stage):
    """A database over its quota: writes are rejected, reads are answered."""
    await database_fault(stage, "fault writes blocked")


@situation()
async def writes_stalled(stage):
    """Another client holds the write lock: writes wait, reads are answered."""
    await stage.minutes(3)
    await stage.database.say("hold-writes on")
    stage.mark("begins")
    await stage.minutes(12)
    await stage.database.say("hold-writes off")
    stage.mark("ends")
    await stage.minutes(13)


@situation(proxied=True)
async def replica_slow(stage):
    """The network between one of two replicas and the database: slow but in time, then too slow for a lookup, then as before."""
    await stage.minutes(5)
    stage.ways["b"].delay = 0.15
    stage.mark("slow")
    await stage.minutes(12)
    stage.ways["b"].delay = 0.9
    stage.mark("late")
    await stage.minutes(12)
    stage.ways["b"].delay = 0.0
    stage.mark("ends")
    await stage.minutes(15)


@situation()
async def credentials_refused(stage):
    """The database's token has expired: everything is 401."""
    await database_fault(stage, "fault all unauthorized")


@situation()
async def throttled(stage):
    """The database asks for fewer calls: everything is 429."""
    await database_fault(stage, "fault all throttled")


@situation()
async def replica_lost(stage):
    """One of two is killed and stays down."""
    await stage.minutes(5)
    await stage.replicas["b"].end()
    stage.mark("begins")
    await stage.minutes(12)
    await stage.replicas["b"].start()
    stage.mark("ends")
    await stage.minutes(10)


@situation()
async def crash_loop(stage):
    """One of two is killed four times, two minutes apart."""
    await stage.minutes(5)
    for number in ("first", "second", "third", "fourth"):
        await stage.restart("b", signal.SIGKILL)
        stage.mark(number)
        await stage.minutes(2)
    await stage.minutes(36)


@situation()
async def clock_off(stage):
    """The database's clock, as replicas see it: seven seconds ahead, then three minutes, then right."""
    await stage.minutes(3)
    await stage.database.say("clock 7")
    stage.mark("seconds")
    await stage.minutes(9)
    await stage.database.say("clock 180")
    stage.mark("minutes")
    await stage.minutes(6)
    await stage.database.say("clock 0")
    stage.mark("ends")
    await stage.minutes(6)


@situation()
async def reload_refused(stage):
    """The callers file is replaced by one that cannot be read, and repaired."""
    good = stage.callers.read_text()
    await stage.minutes(3)
    stage.callers.write_text("[[caller]\n")
    stage.mark("begins")
    await stage.minutes(9)
    stage.callers.write_text(good)
    stage.mark("ends")
    await stage.minutes(6)
