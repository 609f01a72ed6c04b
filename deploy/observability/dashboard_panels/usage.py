"""The rows of usage events, and of the audit log copy."""

from dashboard_panels.promql import gauge, quantile, rate


def usage(board):
    board.row("Usage")
    board.graph(
        "Queue",
        "Events that wait or are being committed, relative to the capacity.",
        (
            f"{gauge('tenant_auth_usage_queue_events')} / {gauge('tenant_auth_usage_queue_capacity_events')}",
            "{{instance}}",
        ),
        unit="percentunit",
        limit=0.8,
        maximum=1,
        width=6,
    )
    board.graph(
        "Events",
        "By outcome.",
        (rate("tenant_auth_usage_events_total", by="outcome"), "{{outcome}}"),
        unit="ops",
        stack=True,
        width=6,
    )
    board.graph(
        "Latency of commits",
        "Including the retry.",
        *[
            (quantile(share, "tenant_auth_usage_flush_duration_seconds"), f"{share * 100:g} %")
            for share in (0.5, 0.9, 0.99)
        ],
        unit="s",
        width=6,
    )
    board.graph(
        "Rows written",
        "Database providers charge for these.",
        (rate("tenant_auth_usage_rows_written_total", by="table"), "{{table}}"),
        unit="wps",
        stack=True,
        width=6,
    )
    board.graph(
        "Differing totals",
        "Totals that differed from the sums of their events in the last comparison; only where the service compares"
        " (TENANT_AUTH_USAGE_RECONCILE_INTERVAL).",
        (gauge("tenant_auth_usage_totals_mismatched"), "{{instance}}"),
        limit=1,
        width=12,
    )
    board.graph(
        "Time since totals were compared",
        "For replicas that compare. Twice the interval and an hour is a ticket.",
        (
            (
                f"(time() - {gauge('tenant_auth_usage_last_reconciled_timestamp_seconds')}) and"
                f" {gauge('tenant_auth_usage_last_reconciled_timestamp_seconds')} > 0"
            ),
            "{{instance}}",
        ),
        (f"max({gauge('tenant_auth_usage_reconcile_interval_seconds')})", "interval"),
        unit="s",
        width=12,
    )


def audit_copy(board):
    complete = gauge("tenant_auth_audit_copy_complete_timestamp_seconds")
    board.row("Audit log copy")
    board.graph(
        "Time since it was complete",
        "For replicas that write one (TENANT_AUTH_AUDIT_FILE). A quarter of an hour is a ticket.",
        (f"(time() - {complete}) and {complete} > 0", "{{instance}}"),
        unit="s",
        limit=900,
        width=12,
    )
    board.graph(
        "Entries and failures",
        "Copied entries, and failed attempts to copy.",
        (rate("tenant_auth_audit_entries_copied_total", by="instance"), "{{instance}} entries"),
        (rate("tenant_auth_audit_copy_failures_total", by="instance"), "{{instance}} failures"),
        unit="ops",
        width=12,
    )
