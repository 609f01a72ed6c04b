"""The rows of database calls, and of the change feed that reads the database's change log."""

from dashboard_panels.promql import gauge, quantile, rate


def database(board):
    board.row("Database: reads")
    board.graph(
        "Reads work, and the database is trusted",
        "Reads 1: the database answered the last conclusive read, which says nothing about writes. Trusted 0: it is not"
        " the database that the replica knows, and the cache answers.",
        (gauge("tenant_auth_database_up", 'operation="read"'), "{{instance}} reads"),
        (gauge("tenant_auth_database_trusted"), "{{instance}} trusted"),
        maximum=1,
        width=6,
    )
    board.graph(
        "Open circuits",
        "1: only probes of these calls are sent. lookups: keys and sessions; writes: every write; the others:"
        " listings.",
        (f"{gauge('tenant_auth_database_breaker_open')} > 0", "{{instance}} {{circuit}}"),
        maximum=1,
        width=6,
    )
    board.graph(
        "Circuits opened",
        "Number of openings within five minutes.",
        (f"increase({gauge('tenant_auth_database_breaker_opened_total')}[5m]) > 0", "{{instance}} {{circuit}}"),
        width=6,
    )
    board.graph(
        "Stalled read replica",
        "Duration of the stall while the primary advances. From 3 s on it counts as an outage; 5 s page.",
        (gauge("tenant_auth_database_read_replica_stalled_seconds"), "{{instance}}"),
        unit="s",
        limit=5,
        width=6,
    )
    board.graph(
        "Reads by server",
        "With TENANT_AUTH_DATABASE_READ_URL: which server has answered, and how many reads the primary answered after the"
        " read replica had failed to.",
        (rate("tenant_auth_database_reads_total", by="source"), "{{source}}"),
        (rate("tenant_auth_database_read_fallbacks_total"), "failed first at the read replica"),
        unit="ops",
        width=6,
    )
    board.graph(
        "Lag of the read replica",
        "With TENANT_AUTH_DATABASE_READ_URL: for how long the read replica has lacked a state of the primary. From 1 s on,"
        " the primary answers reads.",
        (gauge("tenant_auth_database_read_replica_lag_seconds"), "{{instance}}"),
        unit="s",
        limit=1,
        width=6,
    )
    board.graph(
        "Failures",
        "Each attempt counts, reads and writes separately. blocked: a quota; read_only, disk_full: writes only; denied:"
        " the token; circuit_open: not sent.",
        (rate("tenant_auth_database_failures_total", by="operation, kind") + " > 0", "{{operation}} {{kind}}"),
        (rate("tenant_auth_database_retries_total"), "second attempts"),
        unit="ops",
        width=6,
    )
    board.graph(
        "Calls",
        "By lane.",
        (rate("tenant_auth_database_call_duration_seconds_count", by="lane"), "{{lane}}"),
        unit="ops",
        stack=True,
        width=6,
    )
    board.graph(
        "Rows",
        "Read and written, by lane, as the database counts and Turso bills them.",
        (rate("tenant_auth_database_rows_read_total", by="lane"), "{{lane}} read"),
        (rate("tenant_auth_database_rows_written_total", by="lane"), "{{lane}} written"),
        unit="ops",
        width=6,
    )
    board.graph(
        "Latency of calls",
        "99th percentile of successful calls. Timeouts: 300 ms for an attempt, 800 ms for a read of a validation, 10 s"
        " for a write.",
        (quantile(0.99, "tenant_auth_database_call_duration_seconds", 'outcome="ok"', "lane"), "{{lane}}"),
        unit="s",
        width=6,
    )
    board.graph(
        "Reads in flight",
        "Relative to the limit.",
        (
            f"{gauge('tenant_auth_database_calls_in_flight')} / {gauge('tenant_auth_database_calls_limit')}",
            "{{instance}} {{lane}}",
        ),
        unit="percentunit",
        maximum=1,
        width=6,
    )
    board.row("Database: writes and records")
    board.graph(
        "Writes work, or are stalled",
        "Writes 1: the last write succeeded, which says nothing about reads; 0: it failed; no line: none was tried."
        " Stalled 1: it got no response, and its outcome is unknown.",
        (gauge("tenant_auth_database_up", 'operation="write"'), "{{instance}} writes"),
        (gauge("tenant_auth_database_writes_stalled"), "{{instance}} stalled"),
        maximum=1,
        width=6,
    )
    board.graph(
        "Queued writes",
        "One call is in flight at a time, and carries up to sixteen queued writes.",
        (f"sum by (instance, lane) ({gauge('tenant_auth_database_writes_waiting')}) > 0", "{{instance}} {{lane}}"),
        width=6,
    )
    board.graph(
        "Write in flight",
        "Its duration so far. After 10 s (TENANT_AUTH_DATABASE_WRITE_TIMEOUT) it times out, and the next one is sent 5"
        " to 10 s later.",
        (gauge("tenant_auth_database_write_in_progress_seconds"), "{{instance}}"),
        unit="s",
        limit=10,
        width=6,
    )
    board.graph(
        "Time since the last call",
        "Age of the results above. A replica that has written nothing for an hour does not know whether writes work.",
        (f"time() - {gauge('tenant_auth_database_last_attempt_timestamp_seconds')}", "{{instance}} {{operation}}"),
        unit="s",
        width=6,
    )
    board.graph(
        "Unreadable records, retained revocations",
        "Reads of unreadable records within an hour; and revocations, suspensions and unbound sessions that the replica"
        " holds although the database may lack them.",
        (f"sum by (table) (increase({gauge('tenant_auth_unreadable_records_total')}[1h]))", "{{table}} unreadable"),
        (gauge("tenant_auth_retained_revocations"), "{{instance}} retained"),
        width=6,
    )
    board.graph(
        "Leaked keys",
        "Reports of leaked keys within an hour, by their effect.",
        (f"sum by (effect) (increase({gauge('tenant_auth_leak_reports_total')}[1h]))", "{{effect}}"),
        width=6,
    )


def change_feed(board):
    board.row("Change feed")
    board.graph(
        "Lag",
        "Time since the log was last read to its end. Over a second, the cache does not rely on the feed.",
        (gauge("tenant_auth_feed_lag_seconds"), "{{instance}}"),
        (f"count({gauge('tenant_auth_feed_enabled')} == 0)", "replicas with the feed off"),
        unit="s",
        limit=1,
    )
    board.graph(
        "Changes read",
        "And change-log discontinuities (restore, prune, or another database) within an hour.",
        (rate("tenant_auth_feed_events_total", by="instance"), "{{instance}} per second"),
        (f"sum(increase({gauge('tenant_auth_feed_discontinuities_total')}[1h]))", "started over"),
    )
    board.graph(
        "Watch",
        "Subscribed callers, and those dropped within five minutes because they fell behind.",
        (gauge("tenant_auth_watch_subscribers"), "{{instance}} subscribed"),
        (f"sum(increase({gauge('tenant_auth_watch_subscribers_dropped_total')}[5m]))", "dropped"),
    )
