"""States with a fault of the database."""

import itertools
import signal
import threading

from states import state

# Numbers of keys that were never issued.
UNCACHED_KEYS = itertools.count()


def uncached_key():
    """A key in another system's format, which was never issued: it needs a lookup of its own."""
    return f"legacy-key-never-issued-{next(UNCACHED_KEYS):08}"


def cached_key(testbed, replica=None):
    """A key that a replica has cached."""
    key_id, secret = testbed.issue()
    testbed.cache_key(secret, replica)
    return key_id, secret


@state
def database_unreachable(testbed):
    """The database is gone, with a cached key and callers that send requests."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    testbed.databases[0].command("stop")
    testbed.validate_repeatedly(uncached_key)
    testbed.validate_repeatedly(lambda: secret)
    replica.wait_for_status("reads failing (unreachable)", "breaker open for lookups")
    replica.wait_for_metric("tenant_auth_cache_grace_remaining_seconds", lambda value: value > 0)


@state
def database_unresponsive(testbed):
    """The database accepts requests and does not respond."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    testbed.databases[0].command("fault all hang")
    testbed.validate_repeatedly(uncached_key)
    testbed.validate_repeatedly(lambda: secret)
    replica.wait_for_status("reads failing (timed_out)", "breaker open for lookups")


@state
def grace_ending(testbed):
    """Unreachable as above, with a grace that is almost over."""
    replica = testbed.healthy_replica(CACHE_GRACE="30s", CACHE_FRESH="1s", CACHE_STALE_WHILE_REVALIDATE="2s")
    _, secret = cached_key(testbed)
    testbed.databases[0].command("stop")
    testbed.validate_repeatedly(lambda: secret)
    testbed.validate_repeatedly(uncached_key)
    replica.wait_for_status("reads failing (unreachable)", "grace 30 s; ends for")


@state
def token_denied(testbed):
    """The token was revoked."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    testbed.databases[0].command("token another")
    testbed.validate_repeatedly(uncached_key)
    testbed.validate_repeatedly(lambda: secret)
    replica.wait_for_status("reads failing (denied)")


@state
def reads_blocked(testbed):
    """Over the plan's quota of rows read."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    testbed.databases[0].command("fault reads blocked")
    testbed.validate_repeatedly(uncached_key)
    testbed.validate_repeatedly(lambda: secret)
    replica.wait_for_status("reads failing (blocked)")


@state
def error_responses(testbed):
    """A web page is returned instead of a response."""
    replica = testbed.healthy_replica()
    cached_key(testbed)
    testbed.databases[0].command("fault all html")
    testbed.validate_repeatedly(uncached_key, pause=0.3)
    replica.wait_for_status("reads failing (invalid_response)")
    replica.wait_for_log("database call failed")


@state
def writes_blocked(testbed):
    """Over the plan's quota: reads are still answered."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    testbed.databases[0].command("fault writes blocked")
    testbed.validate_repeatedly(lambda: secret)
    record_usage_repeatedly(testbed)
    replica.wait_for_status("reads works", "writes failing (blocked)")
    replica.wait_for_log("transaction")


@state
def writes_stalled(testbed):
    """Another client holds the write lock and does not release it."""
    replica = testbed.healthy_replica(DATABASE_WRITE_TIMEOUT="2s")
    _, secret = cached_key(testbed)
    testbed.databases[0].command("hold-writes on")
    testbed.validate_repeatedly(lambda: secret)
    record_usage_repeatedly(testbed)
    replica.wait_for_status("reads works", "writes failing (timed_out)")


@state
def database_rolled_back(testbed):
    """Rolled back to a backup, on two replicas."""
    first = testbed.healthy_replica()
    second = testbed.replica()
    second.wait_for_status("process ready", "feed live")
    _, secret = cached_key(testbed)
    testbed.databases[0].command("backup")
    read = {replica: replica.metric("tenant_auth_feed_events_total") for replica in (first, second)}
    for _ in range(3):
        key_id, _ = testbed.issue()
        testbed.tenantctl("key", "revoke", key_id, "--reason", "leaked")
    for replica in (first, second):
        testbed.cache_key(secret, replica)
        # Only a replica that has read beyond the backup can detect it. Some of these six changes may be older than the
        # backup.
        replica.wait_for_metric(
            "tenant_auth_feed_events_total", lambda events, before=read[replica]: events >= before + 6
        )
    testbed.databases[0].command("restore")
    for replica in (first, second):
        replica.wait_for_status("NOT TRUSTED (rolled_back)")


@state
def read_replica_stalled(testbed):
    """The read replica of the database has lost its primary."""
    database = testbed.database("--replica", "127.0.0.1:0")
    replica, stalled = testbed.replica(database), threading.Event()
    # The read replica shows changes of the primary when it catches up.
    testbed.call_repeatedly(lambda: database.command("catch-up") if not stalled.is_set() else None, 0.1)
    replica.wait_for_status("process ready", "reads works", "feed live")
    _, secret = cached_key(testbed)
    stalled.set()
    replica.wait_for_status("stalled for")
    testbed.validate_repeatedly(lambda: secret)


@state
def read_replica_unused(testbed):
    """The read replica of the read URL stands still; its primary answers."""
    database = testbed.database("--replica", "127.0.0.1:0")
    replica = testbed.replica(database, url=database.url, DATABASE_READ_URL=database.read_replica_url)
    replica.wait_for_status("process ready", "reads works", "feed live")
    _, secret = cached_key(testbed)
    replica.wait_for_status("reads go to the primary")
    replica.wait_for_log("read replica not used")
    testbed.validate_repeatedly(lambda: secret)


@state
def listings_failing(testbed):
    """Lists of tenants and keys fail, lookups do not."""
    replica = testbed.healthy_replica()
    cached_key(testbed)
    testbed.wait_for_scrape()
    testbed.databases[0].command("fault-where 1000000 unavailable FROM audit_log")
    from tenant_auth.proto import admin_pb2

    stub = testbed.stub("AdminService")
    request = admin_pb2.ListAuditEventsRequest()
    testbed.call_repeatedly(
        lambda: testbed.calls.append(stub.ListAuditEvents.future(request, timeout=5, metadata=testbed.authorization()))
    )
    replica.wait_for_status("reads works", "breaker open for admin")


@state
def reconcile_late(testbed):
    """Usage comparison is due, and its tables get no response."""
    replica = testbed.healthy_replica(USAGE_RECONCILE_INTERVAL="1h")
    cached_key(testbed)
    testbed.wait_for_scrape()
    testbed.databases[0].command("fault-where 1000000 unavailable FROM usage_")
    from tenant_auth.proto import usage_pb2

    stub, request = testbed.stub("UsageService"), usage_pb2.QueryUsageRequest(tenant_id="ten_acme")
    request.start_time.FromSeconds(0)
    request.end_time.GetCurrentTime()
    testbed.call_repeatedly(
        lambda: testbed.calls.append(stub.QueryUsage.future(request, timeout=5, metadata=testbed.authorization())), 0.3
    )
    replica.wait_for_metric("tenant_auth_database_failures_total", lambda count: count > 3, operation="read")


@state
def audit_copy_behind(testbed):
    """The path of the audit log copy is a directory."""
    path = testbed.folder / "audit.jsonl"
    replica = testbed.healthy_replica(AUDIT_FILE=path)
    cached_key(testbed)
    path.rename(testbed.folder / "audit.jsonl.1")
    path.mkdir()
    testbed.wait_for_scrape()
    replica.wait_for_metric("tenant_auth_audit_copy_failures_total", lambda count: count > 0)


@state
def feed_lagging(testbed):
    """Reads of the change log get no response, all others do."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    testbed.validate_repeatedly(lambda: secret)
    testbed.databases[0].command("fault-where 1000000 hang FROM changes")
    replica.wait_for_status("feed silent")
    replica.wait_for_metric("tenant_auth_feed_lag_seconds", lambda lag: lag > 2)


@state
def started_without_database(testbed):
    """Started while the database is unreachable: no request can be served."""
    database = testbed.database()
    database.command("stop")
    testbed.replica(database).wait_for_status("process waiting for the database")


@state
def database_emptied(testbed):
    """A replica has started on an emptied database and reports good keys as unknown."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    testbed.wait_for_scrape()
    replica.end(signal.SIGTERM)
    testbed.databases[0].command("wipe")
    replica.start()
    replica.wait_for_status("process ready", "reads works", "feed live")
    testbed.validate_repeatedly(lambda: secret)
    testbed.validate_repeatedly(uncached_key)
    replica.wait_for_metric("tenant_auth_verdicts_total", lambda count: count > 20, verdict="unknown")


@state
def unreadable_records(testbed):
    """A row has scopes that are not a list, written past the service."""
    replica = testbed.healthy_replica()
    key_id, secret = cached_key(testbed)
    testbed.databases[0].sql(f"UPDATE api_keys SET scopes = '{{}}' WHERE id = '{key_id}'")
    testbed.validate_repeatedly(lambda: secret, pause=0.5)
    replica.wait_for_metric("tenant_auth_unreadable_records_total", lambda count: count > 0)


@state
def key_leaked(testbed):
    """A key was found in a public place, and is disabled."""
    from tenant_auth.proto import admin_pb2

    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    testbed.wait_for_scrape()
    request = admin_pb2.ReportLeakRequest(plaintext=secret, source="a test", location="https://example.com/leak")
    testbed.stub("AdminService").ReportLeak(request, timeout=5, metadata=testbed.authorization())
    replica.wait_for_metric("tenant_auth_leak_reports_total", lambda count: count > 0, effect="disable")


def clock_ahead(testbed, seconds):
    replica = testbed.healthy_replica()
    testbed.databases[0].command(f"clock {-seconds}")
    expired = testbed.issue("--expires-in", "1s")[1]
    testbed.validate_repeatedly(lambda: expired)
    replica.wait_for_metric("tenant_auth_verdicts_total", lambda count: count > 0, verdict="expired")
    replica.wait_for_status(f"{seconds} s ahead of the database's")


@state
def clock_offset(testbed):
    """This replica's clock is seven seconds ahead."""
    clock_ahead(testbed, 7)


@state
def clock_offset_large(testbed):
    """This replica's clock is three minutes ahead."""
    clock_ahead(testbed, 180)


def record_usage_repeatedly(testbed, replica=None, pause=0.2, events=1):
    """A caller that keeps recording usage."""
    from tenant_auth.proto import usage_pb2

    stub, numbers = testbed.stub("UsageService", replica), itertools.count()

    def call():
        event = usage_pb2.UsageEvent(tenant_id="ten_acme", metric="requests", quantity=1)
        request = usage_pb2.RecordUsageRequest(request_id=f"{testbed.name}-{next(numbers)}", events=[event] * events)
        testbed.calls.append(stub.RecordUsage.future(request, timeout=30, metadata=testbed.authorization()))

    testbed.call_repeatedly(call, pause)
