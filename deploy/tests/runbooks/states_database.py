"""States with a fault of the database."""

import itertools
import signal

from deployment import PROGRAMS, run, succeeded
from states import state

# Well-formed keys that were never issued: each needs a lookup of its own.
STRANGERS = itertools.count()


def stranger():
    """A key in another system's format: as unknown as a made-up one, and it needs a lookup."""
    return f"legacy-key-of-nobody-{next(STRANGERS):08}"


def known(world, replica=None):
    """A key that a replica has cached."""
    key_id, secret = world.issue()
    world.learn(secret, replica)
    return key_id, secret


@state
def unreachable(world):
    """The database is gone, with a cached key and callers that send requests."""
    replica = world.ready()
    _, secret = known(world)
    world.databases[0].do("stop")
    world.validating(stranger)
    world.validating(lambda: secret)
    replica.says("reads failing (unreachable)", "breaker open for lookups")
    replica.tells("tenant_auth_cache_grace_remaining_seconds", lambda value: value > 0)


@state
def hung(world):
    """The database accepts requests and does not respond."""
    replica = world.ready()
    _, secret = known(world)
    world.databases[0].do("fault all hang")
    world.validating(stranger)
    world.validating(lambda: secret)
    replica.says("reads failing (timed_out)", "breaker open for lookups")


@state
def grace_ending(world):
    """Unreachable as above, with a grace that is almost over."""
    replica = world.ready(CACHE_GRACE="30s", CACHE_FRESH="1s", CACHE_STALE_WHILE_REVALIDATE="2s")
    _, secret = known(world)
    world.databases[0].do("stop")
    world.validating(lambda: secret)
    world.validating(stranger)
    replica.says("reads failing (unreachable)", "grace 30 s; ends for")


@state
def denied(world):
    """The token was revoked."""
    replica = world.ready()
    _, secret = known(world)
    world.databases[0].do("token another")
    world.validating(stranger)
    world.validating(lambda: secret)
    replica.says("reads failing (denied)")


@state
def reads_blocked(world):
    """Over the plan's quota of rows read."""
    replica = world.ready()
    _, secret = known(world)
    world.databases[0].do("fault reads blocked")
    world.validating(stranger)
    world.validating(lambda: secret)
    replica.says("reads failing (blocked)")


@state
def misbehaving(world):
    """A web page is returned instead of a response."""
    replica = world.ready()
    known(world)
    world.databases[0].do("fault all html")
    world.validating(stranger, pause=0.3)
    replica.says("reads failing (invalid_response)")
    replica.logged("database call failed")


@state
def writes_blocked(world):
    """Over the plan's quota: reads are still answered."""
    replica = world.ready()
    _, secret = known(world)
    world.databases[0].do("fault writes blocked")
    world.validating(lambda: secret)
    usage(world)
    replica.says("reads works", "writes failing (blocked)")
    replica.logged("transaction")


@state
def writes_stalled(world):
    """Another client holds the write lock and does not release it."""
    replica = world.ready(DATABASE_WRITE_TIMEOUT="2s")
    _, secret = known(world)
    world.databases[0].do("hold-writes on")
    world.validating(lambda: secret)
    usage(world)
    replica.says("reads works", "writes failing (timed_out)")


@state
def restored(world):
    """Rolled back to a backup, on two replicas."""
    first = world.ready()
    second = world.replica()
    second.says("process ready", "feed live")
    _, secret = known(world)
    world.databases[0].do("backup")
    read = {replica: replica.metric("tenant_auth_feed_events_total") for replica in (first, second)}
    for _ in range(3):
        key_id, _ = world.issue()
        world.tenantctl("key", "revoke", key_id, "--reason", "leaked")
    for replica in (first, second):
        world.learn(secret, replica)
        # Only a replica that has read beyond the backup can detect it. Some of these six changes may be older than the
        # backup.
        replica.tells("tenant_auth_feed_events_total", lambda events, before=read[replica]: events >= before + 6)
    world.databases[0].do("restore")
    for replica in (first, second):
        replica.says("NOT TRUSTED (rolled_back)")


@state
def copy_frozen(world):
    """The read replica of the database has lost its primary."""
    database = world.database("--copy", "127.0.0.1:0")
    replica = world.replica(database)
    # Changes at the primary show in the copy when it catches up.
    world.keep(lambda: database.do("catch-up") if not world.words.get("frozen") else None, 0.1)
    replica.says("process ready", "reads works", "feed live")
    _, secret = known(world)
    world.words["frozen"] = "yes"
    replica.says("stalled for")
    world.validating(lambda: secret)


@state
def listings_failing(world):
    """Lists of tenants and keys fail, lookups do not."""
    replica = world.ready()
    known(world)
    world.watched()
    world.databases[0].do("fault-where 1000000 unavailable FROM audit_log")
    from tenant_auth.proto import admin_pb2

    stub = world.stub("AdminService")
    request = admin_pb2.ListAuditEventsRequest()
    world.keep(lambda: world.calls.append(stub.ListAuditEvents.future(request, timeout=5, metadata=world.authorization())))
    replica.says("reads works", "breaker open for admin")


@state
def reconcile_late(world):
    """Usage comparison is due, and its tables get no response."""
    replica = world.ready(USAGE_RECONCILE_INTERVAL="1h")
    known(world)
    world.watched()
    world.databases[0].do("fault-where 1000000 unavailable FROM usage_")
    from tenant_auth.proto import usage_pb2

    stub, request = world.stub("UsageService"), usage_pb2.QueryUsageRequest(tenant_id="ten_acme")
    request.start_time.FromSeconds(0)
    request.end_time.GetCurrentTime()
    world.keep(lambda: world.calls.append(stub.QueryUsage.future(request, timeout=5, metadata=world.authorization())), 0.3)
    replica.tells("tenant_auth_database_failures_total", lambda count: count > 3, operation="read")


@state
def audit_copy_behind(world):
    """The path of the audit log copy is a directory."""
    path = world.folder / "audit.jsonl"
    replica = world.ready(AUDIT_FILE=path)
    known(world)
    path.rename(world.folder / "audit.jsonl.1")
    path.mkdir()
    world.watched()
    replica.tells("tenant_auth_audit_copy_failures_total", lambda count: count > 0)


@state
def feed_lagging(world):
    """Reads of the change log get no response, all others do."""
    replica = world.ready()
    _, secret = known(world)
    world.validating(lambda: secret)
    world.databases[0].do("fault-where 1000000 hang FROM changes")
    replica.says("feed silent")
    replica.tells("tenant_auth_feed_lag_seconds", lambda lag: lag > 2)


@state
def started_without_database(world):
    """Started while the database is unreachable: no request can be served."""
    database = world.database()
    database.do("stop")
    world.replica(database).says("process waiting for the database")


@state
def emptied(world):
    """A replica has started on an emptied database and reports good keys as unknown."""
    replica = world.ready()
    _, secret = known(world)
    world.watched()
    replica.end(signal.SIGTERM)
    world.databases[0].do("wipe")
    replica.start()
    replica.says("process ready", "reads works", "feed live")
    world.validating(lambda: secret)
    world.validating(stranger)
    replica.tells("tenant_auth_verdicts_total", lambda count: count > 20, verdict="unknown")


@state
def unreadable(world):
    """A row has scopes that are not a list, written past the service."""
    replica = world.ready()
    key_id, secret = known(world)
    world.databases[0].sql(f"UPDATE api_keys SET scopes = '{{}}' WHERE id = '{key_id}'")
    world.validating(lambda: secret, pause=0.5)
    replica.tells("tenant_auth_unreadable_records_total", lambda count: count > 0)


def clock_ahead(world, seconds):
    replica = world.ready()
    world.databases[0].do(f"clock {-seconds}")
    expired = world.issue("--expires-in", "1s")[1]
    world.validating(lambda: expired)
    replica.tells("tenant_auth_verdicts_total", lambda count: count > 0, verdict="expired")
    replica.says(f"{seconds} s ahead of the database's")


@state
def clock_offset(world):
    """This replica's clock is seven seconds ahead."""
    clock_ahead(world, 7)


@state
def clock_far_off(world):
    """This replica's clock is three minutes ahead."""
    clock_ahead(world, 180)


def usage(world, replica=None, pause=0.2, events=1):
    """A caller that keeps recording usage."""
    from tenant_auth.proto import usage_pb2

    stub, numbers = world.stub("UsageService", replica), itertools.count()

    def call():
        event = usage_pb2.UsageEvent(tenant_id="ten_acme", metric="requests", quantity=1)
        request = usage_pb2.RecordUsageRequest(request_id=f"{world.name}-{next(numbers)}", events=[event] * events)
        world.calls.append(stub.RecordUsage.future(request, timeout=30, metadata=world.authorization()))

    world.keep(call, pause)
