"""The rows of processes, their connections, builds, files and clocks."""

from dashboard_panels.promql import gauge, rate


def processes(board):
    board.row("Processes")
    board.graph("CPU", "In cores.", (rate("process_cpu_seconds_total", by="instance"), "{{instance}}"), width=6)
    board.graph(
        "Memory", "Resident memory.", (gauge("process_resident_memory_bytes"), "{{instance}}"), unit="bytes", width=6
    )
    board.graph(
        "Files and threads",
        "Open file descriptors, relative to the limit; threads.",
        (f"{gauge('process_open_fds')} / {gauge('process_max_fds')}", "{{instance}} files (1 = all)"),
        (gauge("process_threads"), "{{instance}} threads"),
        width=6,
    )
    board.graph(
        "Scheduler lag",
        "Maximum delay of a thread of this process in the last minute: it is starved of CPU.",
        (gauge("tenant_auth_scheduler_lag_seconds"), "{{instance}}"),
        unit="s",
        width=6,
    )
    board.graph(
        "Rejected unknown lookups",
        "Lookups of unknown keys and sessions beyond the limit of a caller or of all.",
        (rate("tenant_auth_unknown_lookups_refused_total", by="instance"), "{{instance}}"),
        unit="reqps",
        width=6,
    )
    board.graph(
        "Suppressed log lines",
        "Of many lines of one kind only some are written.",
        (rate("tenant_auth_log_lines_suppressed_total", by="instance"), "{{instance}}"),
        unit="ops",
        width=6,
    )
    board.graph(
        "Uptime",
        "A drop is a restart.",
        (f"time() - {gauge('process_start_time_seconds')}", "{{instance}}"),
        unit="s",
        width=6,
    )
    board.graph(
        "Connections by worker",
        "Each worker thread serves its own connections: they should be even.",
        (gauge("tenant_auth_connections"), "{{instance}} worker {{worker}}"),
        (f"min({gauge('tenant_auth_connections_limit')})", "limit of a replica"),
    )
    board.graph(
        "Connections opened, refused, ended",
        "Opened; closed at once because of the limit; ended because the peer did not read, or cancelled all its"
        " requests.",
        (rate("tenant_auth_connections_opened_total", by="instance"), "{{instance}} opened"),
        (rate("tenant_auth_connections_refused_total", by="instance"), "{{instance}} refused"),
        (rate("tenant_auth_connections_ended_total", by="instance, reason"), "{{instance}} {{reason}}"),
        unit="cps",
    )
    board.graph(
        "Failed TLS handshakes",
        "By reason.",
        (rate("tenant_auth_tls_handshakes_failed_total", by="instance, reason"), "{{instance}} {{reason}}"),
        unit="cps",
    )
    board.graph(
        "Spans",
        "By outcome.",
        (rate("tenant_auth_otlp_spans_total", by="outcome"), "{{outcome}}"),
        unit="ops",
        width=12,
    )
    board.graph(
        "Requests to the collector",
        "By signal and outcome.",
        (rate("tenant_auth_otlp_exports_total", by="signal, outcome"), "{{signal}} {{outcome}}"),
        unit="ops",
        width=12,
    )


def builds(board):
    board.row("Builds, files and clocks")
    board.table(
        "Builds",
        "The build of each replica. All should be the same clean commit of main.",
        gauge("tenant_auth_build_info"),
        width=12,
    )
    board.graph(
        "Started",
        "Starts within half an hour.",
        (f"changes({gauge('process_start_time_seconds')}[30m])", "{{instance}}"),
        width=6,
    )
    board.graph(
        "Reload refused",
        "1 while the new file is refused and the previous content stays in effect.",
        (gauge("tenant_auth_reload_failed"), "{{instance}} {{file}}"),
        maximum=1,
        width=6,
    )
    board.graph(
        "Certificates and tokens expire in",
        "Less than 21 days and a quarter of the lifetime is a ticket, three days and a tenth a page. Tokens without an"
        " expiry have no line.",
        (
            f"{gauge('tenant_auth_certificate_expiry_timestamp_seconds')} - time()",
            "{{instance}} certificate {{certificate}}",
        ),
        (f"{gauge('tenant_auth_token_expiry_timestamp_seconds')} - time()", "{{instance}} token {{token}}"),
        unit="s",
        minimum=None,
        width=12,
    )
    board.graph(
        "Denied by file",
        "Entries of the deny list; expected only in an emergency.",
        (gauge("tenant_auth_deny_list_entries"), "{{instance}} {{kind}}"),
        width=6,
    )
    board.graph(
        "Pepper missing",
        "1 while keys are stored under a pepper that the replica does not have: keys that it does not find are"
        " UNAVAILABLE.",
        (gauge("tenant_auth_pepper_missing"), "{{instance}}"),
        maximum=1,
        width=6,
    )
    board.graph(
        "Clock offset",
        "This machine's clock minus the database's. If one replica is affected, its machine's clock is wrong; if all"
        " are, the database's. Beyond 5 s it is a ticket, beyond 60 s a page.",
        (gauge("tenant_auth_clock_offset_seconds"), "{{instance}}"),
        unit="s",
        minimum=None,
        width=6,
    )
