"""Generates dashboard.json, for Grafana 10 or later: `python3 dashboard.py` writes it, `--check` fails if it would change.

Plain Python and plain JSON: the required schema is small, and a library would have to be pinned and updated.
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).with_name("dashboard.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Every query selects by the dashboard variables. No metric has a label that names a tenant, and no query may use one.
HERE = 'job="$job", instance=~"$instance"'
USERS = 'grpc_service=~"tenantauth[.]v1[.](Validation|Session|Usage|Admin)Service"'
RPC = "grpc_service, grpc_method"
RPC_LEGEND = "{{grpc_service}}/{{grpc_method}}"
WIDTH = 24
HEIGHT = 8


class Dashboard:
    """The panels, placed from left to right and from top to bottom, under their rows."""

    def __init__(self):
        self.panels = []
        self.x = self.y = 0
        self.line = 0

    def row(self, title):
        self.wrap()
        self.panels.append(
            {
                "collapsed": False,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": self.y},
                "id": self.number(),
                "panels": [],
                "title": title,
                "type": "row",
            }
        )
        self.y += 1

    def graph(self, title, description, *queries, unit="short", width=8, stack=False, limit=None, least=0, most=None):
        """Adds a time series panel. A query is PromQL and the legend of its lines; a line turns red at `limit`."""
        custom = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": False}
        if stack:
            custom |= {"fillOpacity": 40, "stacking": {"group": "A", "mode": "normal"}}
        steps = [{"color": "green", "value": None}]
        if limit is not None:
            steps.append({"color": "red", "value": limit})
            custom["thresholdsStyle"] = {"mode": "line"}
        defaults = {"custom": custom, "thresholds": {"mode": "absolute", "steps": steps}, "unit": unit}
        if least is not None:
            defaults["min"] = least
        if most is not None:
            defaults["max"] = most
        options = {
            "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        self.panel("timeseries", title, description, queries, defaults, options, width, HEIGHT)

    def number_of(self, title, description, query, unit="short", steps=((None, "green"),), width=4):
        """Adds a panel with one number, in the colour of the last step that it has reached."""
        colours = [{"color": colour, "value": value} for value, colour in steps]
        defaults = {"thresholds": {"mode": "absolute", "steps": colours}, "unit": unit}
        options = {
            "colorMode": "background",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        }
        self.panel("stat", title, description, [(query, "")], defaults, options, width, 4)

    def table(self, title, description, query, width=24):
        """Adds a table with the labels of the series that exist at the end of the time range."""
        self.panel("table", title, description, [(query, "")], {}, {"showHeader": True}, width, HEIGHT)
        panel = self.panels[-1]
        panel["targets"][0] |= {"format": "table", "instant": True, "range": False}
        panel["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": False}}}]

    def panel(self, kind, title, description, queries, defaults, options, width, height):
        if self.x + width > WIDTH:
            self.wrap()
        targets = [
            {
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": name or "__auto",
                "range": True,
                "refId": chr(ord("A") + place),
            }
            for place, (expression, name) in enumerate(queries)
        ]
        self.panels.append(
            {
                "datasource": SOURCE,
                "description": description,
                "fieldConfig": {"defaults": defaults, "overrides": []},
                "gridPos": {"h": height, "w": width, "x": self.x, "y": self.y},
                "id": self.number(),
                "options": options,
                "targets": targets,
                "title": title,
                "type": kind,
            }
        )
        self.x += width
        self.line = max(self.line, height)

    def wrap(self):
        self.x, self.y, self.line = 0, self.y + self.line, 0

    def number(self):
        return len(self.panels) + 1


def rate(metric, labels="", by="", window="$__rate_interval"):
    """Returns the PromQL of a rate per second, summed by labels."""
    return f"sum by ({by}) (rate({metric}{{{', '.join(filter(None, [HERE, labels]))}}}[{window}]))"


def quantile(share, metric, labels="", by=""):
    """Returns the PromQL of a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(metric + '_bucket', labels, ', '.join(filter(None, ['le', by])))})"


def gauge(metric, labels=""):
    return f"{metric}{{{', '.join(filter(None, [HERE, labels]))}}}"


def users(board):
    board.row("Service level")
    for window, limit in [("5m", 14.4), ("1h", 14.4), ("6h", 6), ("3d", 1)]:
        board.number_of(
            f"Error budget burn rate, {window}",
            f"How many times too fast the error budget of 99.9 % is spent, over {window}. The higher of requests and decisions.",
            f'max(job:tenant_auth_sli_errors:ratio_rate{window}{{job="$job"}}) / 0.001',
            steps=((None, "green"), (1, "orange"), (limit, "red")),
        )
    board.number_of(
        "Ready",
        "Replicas that accept requests.",
        f"sum({gauge('tenant_auth_ready')})",
        steps=((None, "red"), (1, "green")),
    )
    board.number_of(
        "Alerts",
        "Alerts that fire now.",
        'sum(ALERTS{job="$job", alertstate="firing"}) or vector(0)',
        steps=((None, "green"), (1, "red")),
    )
    board.graph(
        "Error ratio",
        "Denials count as good. By sli: requests by their status, decisions by item. The red line is the threshold of the one-hour page.",
        ('job:tenant_auth_sli_errors:ratio_rate5m{job="$job"}', "{{sli}}, 5m"),
        ('job:tenant_auth_sli_errors:ratio_rate1h{job="$job"}', "{{sli}}, 1h"),
        unit="percentunit",
        limit=0.0144,
    )
    board.graph(
        "Failed requests",
        "By status. Canceled: the caller stopped waiting.",
        (rate("grpc_server_handled_total", 'grpc_code!="OK", ' + USERS, "grpc_code"), "{{grpc_code}}"),
        unit="reqps",
        stack=True,
    )
    board.graph(
        "Load shedding",
        "Requests, and messages of streams, rejected because all permits were in use, or their caller had reached its share; and the share of permits in use.",
        (rate("tenant_auth_requests_shed_total", by="instance, limiter"), "{{instance}} {{limiter}} rejected per second"),
        (f"{gauge('tenant_auth_request_permits_in_use')} / {gauge('tenant_auth_request_permits')}", "{{instance}} {{limiter}} in use (1 = all)"),
    )
    board.graph(
        "Requests by RPC",
        "Completed requests.",
        (rate("grpc_server_handled_total", 'grpc_method=~"$rpc"', RPC), RPC_LEGEND),
        unit="reqps",
        width=12,
    )
    board.graph(
        "Messages by RPC",
        "Messages received and sent; more than one a call are those of streams. And calls started, beside those completed above.",
        (rate("grpc_server_started_total", 'grpc_method=~"$rpc"', RPC), RPC_LEGEND + " started"),
        (rate("grpc_server_msg_received_total", 'grpc_method=~"$rpc"', RPC), RPC_LEGEND + " received"),
        (rate("grpc_server_msg_sent_total", 'grpc_method=~"$rpc"', RPC), RPC_LEGEND + " sent"),
        unit="ops",
        width=12,
    )
    board.graph(
        "Errors by RPC",
        "The ratio of failed requests of an RPC.",
        (
            rate("grpc_server_handled_total", 'grpc_method=~"$rpc", grpc_code=~"Unavailable|DeadlineExceeded|ResourceExhausted|Internal|Unknown|DataLoss"', RPC)
            + " / "
            + rate("grpc_server_handled_total", 'grpc_method=~"$rpc"', RPC),
            RPC_LEGEND,
        ),
        unit="percentunit",
        width=12,
    )
    board.graph(
        "Latency by RPC",
        "99th percentile. Streams are left out: their duration is their whole lifetime.",
        (quantile(0.99, "grpc_server_handling_seconds", 'grpc_method=~"$rpc", grpc_type="unary"', RPC), RPC_LEGEND),
        unit="s",
        width=12,
    )
    board.graph(
        "Latency of ValidateKey",
        "From the request headers to the end of the response.",
        *[(quantile(share, "grpc_server_handling_seconds", 'grpc_service="tenantauth.v1.ValidationService", grpc_method="ValidateKey"'), f"{share * 100:g} %") for share in (0.5, 0.9, 0.99, 0.999)],
        unit="s",
        width=6,
    )
    board.graph(
        "In flight",
        "RPCs that have started and not ended; streams stay open for long.",
        (f"sum by ({RPC}) ({gauge('tenant_auth_rpcs_in_flight')}) > 0", RPC_LEGEND),
        width=6,
    )


def answers(board):
    board.row("Decisions")
    board.graph("Verdicts", "Decisions about keys and sessions, each item counted separately. A denial counts as good.", (rate("tenant_auth_verdicts_total", by="verdict"), "{{verdict}}"), unit="ops", stack=True)
    board.graph("Ratio of UNKNOWN", "By replica, of all decisions. A leap to a fifth pages: an emptied database causes it, and so do made-up keys.", (rate("tenant_auth_verdicts_total", 'verdict="unknown"', "instance") + " / " + rate("tenant_auth_verdicts_total", by="instance"), "{{instance}}"), unit="percentunit", limit=0.2, most=1)
    board.graph("Source of answers", "fresh, refreshing and stale: the cache; none: the format of the key was enough.", (rate("tenant_auth_answers_total", by="source"), "{{source}}"), unit="ops", stack=True)
    board.graph("Undecided", "By the kind of the database's failure; not_tried: there was no permit or no time left.", (rate("tenant_auth_undecided_total", by="reason") + " > 0", "{{reason}}"), unit="ops", stack=True)
    board.graph(
        "Answered from the cache",
        "Of all answers that needed a record.",
        (rate("tenant_auth_answers_total", 'source=~"fresh|refreshing|stale|negative"') + " / " + rate("tenant_auth_answers_total", 'source!="none"'), "from the cache"),
        (rate("tenant_auth_answers_total", 'source="stale"') + " / " + rate("tenant_auth_answers_total", 'source!="none"'), "stale"),
        unit="percentunit",
        most=1,
    )
    board.graph(
        "Oldest answer against the grace",
        "Over the last minute. At the grace, cached keys become UNAVAILABLE; four fifths of it page.",
        (gauge("tenant_auth_cache_oldest_answer_age_seconds"), "{{instance}}"),
        (f"max({gauge('tenant_auth_cache_grace_seconds')})", "grace"),
        unit="s",
    )
    board.graph(
        "Time until the grace ends",
        "For the oldest and the median key in use; the whole grace while the database answers reads, negative after its end.",
        (gauge("tenant_auth_cache_grace_remaining_seconds"), "{{instance}} {{of}}"),
        unit="s",
    )
    board.graph("Beyond the grace", "Cached keys that are too old to be used while the database cannot be read.", (gauge("tenant_auth_cache_beyond_grace_records"), "{{instance}}"))
    board.graph("Cache misses", "Lookups that waited for the database, and loads in flight.", (rate("tenant_auth_cache_misses_total", by="cache"), "{{cache}} misses per second"), (f"sum by (cache) ({gauge('tenant_auth_cache_loads_in_flight')})", "{{cache}} being loaded"))
    board.graph("Cache in use", "Entries, relative to the capacity.", (f"{gauge('tenant_auth_cache_entries')} / {gauge('tenant_auth_cache_capacity')}", "{{instance}} {{cache}} {{kind}}"), unit="percentunit", width=12, most=1)
    board.graph("Cache evictions", "Entries evicted because the cache was full.", (rate("tenant_auth_cache_evictions_total", by="cache, kind"), "{{cache}} {{kind}}"), unit="ops", width=12)


def database(board):
    board.row("Database: reads")
    board.graph("Reads work, and the database is trusted", "Reads 1: the database answered the last conclusive read, which says nothing about writes. Trusted 0: it is not the database that the replica knows, and the cache answers.", (gauge("tenant_auth_database_up", 'operation="read"'), "{{instance}} reads"), (gauge("tenant_auth_database_trusted"), "{{instance}} trusted"), most=1, width=6)
    board.graph("Open circuits", "1: only probes of these calls are sent. lookups: keys and sessions; writes: every write; the others: listings.", (f"{gauge('tenant_auth_database_breaker_open')} > 0", "{{instance}} {{circuit}}"), most=1, width=6)
    board.graph("Circuits opened", "Number of openings within five minutes.", (f"increase({gauge('tenant_auth_database_breaker_opened_total')}[5m]) > 0", "{{instance}} {{circuit}}"), width=6)
    board.graph("Stalled read replica", "Duration of the stall while the primary advances. From 3 s on it counts as an outage; 5 s page.", (gauge("tenant_auth_database_copy_stalled_seconds"), "{{instance}}"), unit="s", limit=5, width=6)
    board.graph("Failures", "Each attempt counts, reads and writes separately. blocked: a quota; read_only, disk_full: writes only; denied: the token; circuit_open: not sent.", (rate("tenant_auth_database_failures_total", by="operation, kind") + " > 0", "{{operation}} {{kind}}"), (rate("tenant_auth_database_retries_total"), "second attempts"), unit="ops", width=6)
    board.graph("Calls", "By lane.", (rate("tenant_auth_database_call_duration_seconds_count", by="lane"), "{{lane}}"), unit="ops", stack=True, width=6)
    board.graph("Latency of calls", "99th percentile of successful calls. Timeouts: 300 ms for an attempt, 800 ms for a read of a validation, 10 s for a write.", (quantile(0.99, "tenant_auth_database_call_duration_seconds", 'outcome="ok"', "lane"), "{{lane}}"), unit="s", width=6)
    board.graph("Reads in flight", "Relative to the limit.", (f"{gauge('tenant_auth_database_calls_in_flight')} / {gauge('tenant_auth_database_calls_limit')}", "{{instance}} {{lane}}"), unit="percentunit", most=1, width=6)
    board.row("Database: writes and records")
    board.graph("Writes work, or are stalled", "Writes 1: the last write succeeded, which says nothing about reads; 0: it failed; no line: none was tried. Stalled 1: it got no response, and its outcome is unknown.", (gauge("tenant_auth_database_up", 'operation="write"'), "{{instance}} writes"), (gauge("tenant_auth_database_writes_stalled"), "{{instance}} stalled"), most=1, width=6)
    board.graph("Queued writes", "One call is in flight at a time, and carries up to sixteen queued writes.", (f"sum by (instance, lane) ({gauge('tenant_auth_database_writes_waiting')}) > 0", "{{instance}} {{lane}}"), width=6)
    board.graph("Write in flight", "Its duration so far. After 10 s (TENANT_AUTH_DATABASE_WRITE_TIMEOUT) it times out, and the next one is sent 5 to 10 s later.", (gauge("tenant_auth_database_write_in_progress_seconds"), "{{instance}}"), unit="s", limit=10, width=6)
    board.graph("Time since the last call", "Age of the results above. A replica that has written nothing for an hour does not know whether writes work.", (f"time() - {gauge('tenant_auth_database_last_attempt_timestamp_seconds')}", "{{instance}} {{operation}}"), unit="s", width=6)
    board.graph("Unreadable records, held revocations", "Reads of unreadable records within an hour; and revocations, suspensions and unbound sessions that the replica holds although the database may lack them.", (f"sum by (table) (increase({gauge('tenant_auth_unreadable_records_total')}[1h]))", "{{table}} unreadable"), (gauge("tenant_auth_held_revocations"), "{{instance}} held"), width=6)


def feed(board):
    board.row("Change feed")
    board.graph("Lag", "Time since the log was last read to its end. Over a second, the cache does not rely on the feed.", (gauge("tenant_auth_feed_lag_seconds"), "{{instance}}"), (f"count({gauge('tenant_auth_feed_enabled')} == 0)", "replicas with the feed off"), unit="s", limit=1)
    board.graph("Changes read", "And change-log discontinuities (restore, prune, or another database) within an hour.", (rate("tenant_auth_feed_events_total", by="instance"), "{{instance}} per second"), (f"sum(increase({gauge('tenant_auth_feed_discontinuities_total')}[1h]))", "started over"))
    board.graph("Watch", "Subscribed callers, and those dropped within five minutes because they fell behind.", (gauge("tenant_auth_watch_subscribers"), "{{instance}} subscribed"), (f"sum(increase({gauge('tenant_auth_watch_subscribers_dropped_total')}[5m]))", "dropped"))


def usage(board):
    board.row("Usage")
    board.graph("Queue", "Events that wait or are being committed, relative to the capacity.", (f"{gauge('tenant_auth_usage_queue_events')} / {gauge('tenant_auth_usage_queue_capacity_events')}", "{{instance}}"), unit="percentunit", limit=0.8, most=1, width=6)
    board.graph("Events", "By outcome.", (rate("tenant_auth_usage_events_total", by="outcome"), "{{outcome}}"), unit="ops", stack=True, width=6)
    board.graph("Latency of commits", "Including the retry.", *[(quantile(share, "tenant_auth_usage_flush_duration_seconds"), f"{share * 100:g} %") for share in (0.5, 0.9, 0.99)], unit="s", width=6)
    board.graph("Rows written", "Database providers charge for these.", (rate("tenant_auth_usage_rows_written_total", by="table"), "{{table}}"), unit="wps", stack=True, width=6)
    board.graph("Differing totals", "Totals that differed from the sums of their events in the last comparison; only where the service compares (TENANT_AUTH_USAGE_RECONCILE_INTERVAL).", (gauge("tenant_auth_usage_totals_mismatched"), "{{instance}}"), limit=1, width=12)
    board.graph("Time since totals were compared", "For replicas that compare. Twice the interval and an hour is a ticket.", (f"(time() - {gauge('tenant_auth_usage_last_reconciled_timestamp_seconds')}) and {gauge('tenant_auth_usage_last_reconciled_timestamp_seconds')} > 0", "{{instance}}"), (f"max({gauge('tenant_auth_usage_reconcile_interval_seconds')})", "interval"), unit="s", width=12)


def audit(board):
    complete = gauge("tenant_auth_audit_copy_complete_timestamp_seconds")
    board.row("Audit log copy")
    board.graph("Time since it was complete", "For replicas that write one (TENANT_AUTH_AUDIT_FILE). A quarter of an hour is a ticket.", (f"(time() - {complete}) and {complete} > 0", "{{instance}}"), unit="s", limit=900, width=12)
    board.graph("Entries and failures", "Copied entries, and failed attempts to copy.", (rate("tenant_auth_audit_entries_copied_total", by="instance"), "{{instance}} entries"), (rate("tenant_auth_audit_copy_failures_total", by="instance"), "{{instance}} failures"), unit="ops", width=12)


def process(board):
    board.row("Processes")
    board.graph("CPU", "In cores.", (rate("process_cpu_seconds_total", by="instance"), "{{instance}}"), width=6)
    board.graph("Memory", "Resident memory.", (gauge("process_resident_memory_bytes"), "{{instance}}"), unit="bytes", width=6)
    board.graph("Files and threads", "Open file descriptors, relative to the limit; threads.", (f"{gauge('process_open_fds')} / {gauge('process_max_fds')}", "{{instance}} files (1 = all)"), (gauge("process_threads"), "{{instance}} threads"), width=6)
    board.graph("Scheduler lag", "Maximum delay of a thread of this process in the last minute: it is starved of CPU.", (gauge("tenant_auth_scheduler_lag_seconds"), "{{instance}}"), unit="s", width=6)
    board.graph("Rejected guesses", "Lookups of unknown keys and sessions beyond the guess limit of a caller or of all.", (rate("tenant_auth_unknown_lookups_refused_total", by="instance"), "{{instance}}"), unit="reqps", width=6)
    board.graph("Suppressed log lines", "Of many lines of one kind only some are written.", (rate("tenant_auth_log_lines_suppressed_total", by="instance"), "{{instance}}"), unit="ops", width=6)
    board.graph("Uptime", "A drop is a restart.", (f"time() - {gauge('process_start_time_seconds')}", "{{instance}}"), unit="s", width=6)
    board.graph("Connections by worker", "Each worker thread serves its own connections: they should be even.", (gauge("tenant_auth_connections"), "{{instance}} worker {{worker}}"), (f"min({gauge('tenant_auth_connections_limit')})", "limit of a replica"))
    board.graph("Connections opened, refused, ended", "Opened; closed at once because of the limit; ended because the peer did not read, or cancelled all its requests.", (rate("tenant_auth_connections_opened_total", by="instance"), "{{instance}} opened"), (rate("tenant_auth_connections_refused_total", by="instance"), "{{instance}} refused"), (rate("tenant_auth_connections_ended_total", by="instance, reason"), "{{instance}} {{reason}}"), unit="cps")
    board.graph("Failed TLS handshakes", "By reason.", (rate("tenant_auth_tls_handshakes_failed_total", by="instance, reason"), "{{instance}} {{reason}}"), unit="cps")
    board.graph("Spans", "By outcome.", (rate("tenant_auth_otlp_spans_total", by="outcome"), "{{outcome}}"), unit="ops", width=12)
    board.graph("Requests to the collector", "By signal and outcome.", (rate("tenant_auth_otlp_exports_total", by="signal, outcome"), "{{signal}} {{outcome}}"), unit="ops", width=12)


def builds(board):
    board.row("Builds, files and clocks")
    board.table("Builds", "The build of each replica. All should be the same clean commit of main.", gauge("tenant_auth_build_info"), width=12)
    board.graph("Started", "Starts within half an hour.", (f"changes({gauge('process_start_time_seconds')}[30m])", "{{instance}}"), width=6)
    board.graph("Reload refused", "1 while the new file is refused and the previous content stays in effect.", (gauge("tenant_auth_reload_failed"), "{{instance}} {{file}}"), most=1, width=6)
    board.graph(
        "Certificates and tokens expire in",
        "Less than 21 days and a quarter of the lifetime is a ticket, three days and a tenth a page. Tokens without an expiry have no line.",
        (f"{gauge('tenant_auth_certificate_expiry_timestamp_seconds')} - time()", "{{instance}} certificate {{certificate}}"),
        (f"{gauge('tenant_auth_token_expiry_timestamp_seconds')} - time()", "{{instance}} token {{token}}"),
        unit="s",
        least=None,
        width=12,
    )
    board.graph("Denied by file", "Entries of the deny list; expected only in an emergency.", (gauge("tenant_auth_deny_list_entries"), "{{instance}} {{kind}}"), width=6)
    board.graph("Pepper missing", "1 while keys are stored under a pepper that the replica does not have: keys that it does not find are UNAVAILABLE.", (gauge("tenant_auth_pepper_missing"), "{{instance}}"), most=1, width=6)
    board.graph("Clock offset", "This machine's clock minus the database's. If one replica is affected, its machine's clock is wrong; if all are, the database's. Beyond 5 s it is a ticket, beyond 60 s a page.", (gauge("tenant_auth_clock_offset_seconds"), "{{instance}}"), unit="s", least=None, width=6)


def variable(name, label, query, **more):
    return {
        "datasource": SOURCE,
        "definition": query,
        "label": label,
        "name": name,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    } | more


def dashboard():
    board = Dashboard()
    for part in (users, answers, database, feed, usage, audit, process, builds):
        part(board)
    everything = {"allValue": ".*", "current": {"text": "All", "value": "$__all"}, "includeAll": True, "multi": True}
    # The name of the data source in the Grafana of deploy/compose.
    source = {"current": {"text": "Prometheus", "value": "prometheus"}, "label": "Prometheus", "name": "datasource", "query": "prometheus", "type": "datasource"}
    ours = {"current": {"text": "tenant-auth", "value": "tenant-auth"}}
    return {
        "annotations": {"list": []},
        "description": "tenant-auth: generated by deploy/observability/dashboard.py; changes made here are lost.",
        "editable": False,
        "graphTooltip": 1,
        "panels": board.panels,
        "refresh": "30s",
        "schemaVersion": 39,
        "tags": ["tenant-auth"],
        "templating": {
            "list": [
                source,
                variable("job", "Job", "label_values(tenant_auth_build_info, job)", **ours),
                variable("instance", "Replica", 'label_values(tenant_auth_build_info{job="$job"}, instance)', **everything),
                variable("rpc", "RPC", 'label_values(grpc_server_handled_total{job="$job", grpc_service=~"tenantauth.+"}, grpc_method)', **everything),
            ]
        },
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "title": "tenant-auth",
        "uid": "tenant-auth",
    }


def main():
    text = json.dumps(dashboard(), indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        if not FILE.exists() or FILE.read_text() != text:
            sys.exit("dashboard.json is out of date: run python3 deploy/observability/dashboard.py")
    else:
        FILE.write_text(text)


if __name__ == "__main__":
    main()
