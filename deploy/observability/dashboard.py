"""Makes dashboard.json, for Grafana 10 or later: `python3 dashboard.py` writes it, `--check` fails if it would change.

Plain Python and plain JSON: the schema that is needed is small, and what a library would add has to be pinned and kept up.
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).with_name("dashboard.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Every query selects by the variables. No label of any metric names a tenant, and none may here.
HERE = 'job="$job", instance=~"$instance"'
USERS = 'rpc=~"tenantauth[.]v1[.](Validation|Session|Usage|Admin)Service/.+"'
WIDTH = 24
HEIGHT = 8


class Dashboard:
    """Panels, from left to right and from top to bottom, under their rows."""

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
        """Lines over time. A query is PromQL and what its lines are called; `limit` is where a line turns red."""
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
        """One number, in the colour of the last step that it has reached."""
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
        """The labels of what there is at the end of the time looked at."""
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
    """Per second, summed up."""
    return f"sum by ({by}) (rate({metric}{{{', '.join(filter(None, [HERE, labels]))}}}[{window}]))"


def quantile(share, metric, labels="", by=""):
    """Of a histogram."""
    return f"histogram_quantile({share}, {rate(metric + '_bucket', labels, ', '.join(filter(None, ['le', by])))})"


def gauge(metric, labels=""):
    return f"{metric}{{{', '.join(filter(None, [HERE, labels]))}}}"


def users(board):
    board.row("Are users served?")
    for window, limit in [("5m", 14.4), ("1h", 14.4), ("6h", 6), ("3d", 1)]:
        board.number_of(
            f"Budget burnt, {window}",
            f"How many times too fast the error budget of 99.9 % is spent, over {window}. The worse of requests and decisions.",
            f'max(job:tenant_auth_sli_errors:ratio_rate{window}{{job="$job"}}) / 0.001',
            steps=((None, "green"), (1, "orange"), (limit, "red")),
        )
    board.number_of(
        "Ready",
        "Replicas to which requests should be sent.",
        f"sum({gauge('tenant_auth_ready')})",
        steps=((None, "red"), (1, "green")),
    )
    board.number_of(
        "Alerts",
        "That fire now.",
        'sum(ALERTS{job="$job", alertstate="firing"}) or vector(0)',
        steps=((None, "green"), (1, "red")),
    )
    board.graph(
        "Share of errors",
        "Denials are good. By sli: requests by their status, decisions by item. The line is the page of one hour.",
        ('job:tenant_auth_sli_errors:ratio_rate5m{job="$job"}', "{{sli}}, 5m"),
        ('job:tenant_auth_sli_errors:ratio_rate1h{job="$job"}', "{{sli}}, 1h"),
        unit="percentunit",
        limit=0.0144,
    )
    board.graph(
        "Requests that failed",
        "By status. CANCELLED: the caller did not wait.",
        (rate("tenant_auth_requests_total", 'code!="OK", ' + USERS, "code"), "{{code}}"),
        unit="reqps",
        stack=True,
    )
    board.graph(
        "Shed",
        "Requests, and messages of streams, refused because every place was taken, or their caller had its share; and how many places are.",
        (rate("tenant_auth_requests_shed_total", by="instance, pool"), "{{instance}} {{pool}} refused a second"),
        (f"{gauge('tenant_auth_request_places_taken')} / {gauge('tenant_auth_request_places')}", "{{instance}} {{pool}} taken (1 = all)"),
    )
    board.graph(
        "Requests by RPC",
        "That have ended.",
        (rate("tenant_auth_requests_total", 'rpc=~"$rpc"', "rpc"), "{{rpc}}"),
        unit="reqps",
        width=12,
    )
    board.graph(
        "Errors by RPC",
        "The share of an RPC's requests that came to nothing.",
        (
            rate("tenant_auth_requests_total", 'rpc=~"$rpc", code=~"UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|UNKNOWN|DATA_LOSS"', "rpc")
            + " / "
            + rate("tenant_auth_requests_total", 'rpc=~"$rpc"', "rpc"),
            "{{rpc}}",
        ),
        unit="percentunit",
        width=12,
    )
    board.graph(
        "Time of an answer, by RPC",
        "99 of 100 are faster. Streams are left out: theirs is their whole life.",
        (quantile(0.99, "tenant_auth_request_duration_seconds", 'rpc=~"$rpc", rpc!~".+/(StreamValidateKeys|Watch|ServerReflectionInfo)"', "rpc"), "{{rpc}}"),
        unit="s",
        width=12,
    )
    board.graph(
        "Time of ValidateKey",
        "From a request's head to the end of its answer.",
        *[(quantile(share, "tenant_auth_request_duration_seconds", 'rpc="tenantauth.v1.ValidationService/ValidateKey"'), f"{share * 100:g} %") for share in (0.5, 0.9, 0.99, 0.999)],
        unit="s",
        width=6,
    )
    board.graph(
        "In flight",
        "RPCs that have begun and not ended; streams live long.",
        (f"sum by (rpc) ({gauge('tenant_auth_requests_in_flight')}) > 0", "{{rpc}}"),
        width=6,
    )


def answers(board):
    board.row("What are they told?")
    board.graph("Verdicts", "About keys and sessions, each item by itself. A denial is a good answer.", (rate("tenant_auth_verdicts_total", by="verdict"), "{{verdict}}"), unit="ops", stack=True)
    board.graph("Share of UNKNOWN", "By replica. Of all decisions; a leap to a fifth pages: an emptied database looks like that, and so do made-up keys.", (rate("tenant_auth_verdicts_total", 'verdict="unknown"', "instance") + " / " + rate("tenant_auth_verdicts_total", by="instance"), "{{instance}}"), unit="percentunit", limit=0.2, most=1)
    board.graph("Where answers come from", "fresh, refreshing and stale are memory; none: looks were enough.", (rate("tenant_auth_answers_total", by="source"), "{{source}}"), unit="ops", stack=True)
    board.graph("Nothing could be said", "By the kind of the database's failure; not_tried: there was no place or no time.", (rate("tenant_auth_undecided_total", by="reason") + " > 0", "{{reason}}"), unit="ops", stack=True)
    board.graph(
        "Answered from memory",
        "Of all answers that needed more than a look.",
        (rate("tenant_auth_answers_total", 'source=~"fresh|refreshing|stale|negative"') + " / " + rate("tenant_auth_answers_total", 'source!="none"'), "from memory"),
        (rate("tenant_auth_answers_total", 'source="stale"') + " / " + rate("tenant_auth_answers_total", 'source!="none"'), "of them stale"),
        unit="percentunit",
        most=1,
    )
    board.graph(
        "Oldest answer against the grace",
        "Over the last minute. At the grace, known keys become UNAVAILABLE; four fifths page.",
        (gauge("tenant_auth_cache_oldest_answer_seconds"), "{{instance}}"),
        (f"max({gauge('tenant_auth_cache_grace_seconds')})", "grace"),
        unit="s",
    )
    board.graph(
        "Time until the grace ends",
        "For the oldest and the median key in use; the whole grace while the database answers reads, negative when it has ended.",
        (gauge("tenant_auth_cache_grace_ends_seconds"), "{{instance}} {{of}}"),
        unit="s",
    )
    board.graph("Beyond the grace", "Keys in memory that are too old to answer with while the database cannot be read.", (gauge("tenant_auth_cache_beyond_grace_records"), "{{instance}}"))
    board.graph("Memory is asked in vain", "Look-ups for which the database was waited for, and what is being loaded.", (rate("tenant_auth_cache_misses_total", by="pool"), "{{pool}} missed a second"), (f"sum by (pool) ({gauge('tenant_auth_cache_loads_in_flight')})", "{{pool}} being loaded"))
    board.graph("Memory in use", "Entries, of those for which there is room.", (f"{gauge('tenant_auth_cache_entries')} / {gauge('tenant_auth_cache_capacity')}", "{{instance}} {{pool}} {{kind}}"), unit="percentunit", width=12, most=1)
    board.graph("Pushed out of memory", "For want of room.", (rate("tenant_auth_cache_evictions_total", by="pool, kind"), "{{pool}} {{kind}}"), unit="ops", width=12)


def database(board):
    board.row("Database: reads")
    board.graph("Reads work, and are believed", "Reads 1: it answered the last read that tells, which says nothing about writes. Believed 0: it is not the database that the replica knows, and memory answers.", (gauge("tenant_auth_database_up", 'operation="read"'), "{{instance}} reads"), (gauge("tenant_auth_database_trusted"), "{{instance}} believed"), most=1, width=6)
    board.graph("Circuits open", "1: such calls are sent now and then only. lookups: keys and sessions; writes: every change; the others: listings.", (f"{gauge('tenant_auth_database_breaker_open')} > 0", "{{instance}} {{circuit}}"), most=1, width=6)
    board.graph("Circuits opened", "Times, within five minutes.", (f"increase({gauge('tenant_auth_database_breaker_opened_total')}[5m]) > 0", "{{instance}} {{circuit}}"), width=6)
    board.graph("The copy stands still", "For how long, while its primary went on. From 3 s on it counts as an outage; 5 s page.", (gauge("tenant_auth_database_standstill_seconds"), "{{instance}}"), unit="s", limit=5, width=6)
    board.graph("Failures", "Every attempt by itself, reads and writes apart. blocked: a quota; read_only, disk_full: writes only; denied: the token. circuit_open was not asked.", (rate("tenant_auth_database_failures_total", by="operation, kind") + " > 0", "{{operation}} {{kind}}"), (rate("tenant_auth_database_retries_total"), "second attempts"), unit="ops", width=6)
    board.graph("Calls", "Of every lane.", (rate("tenant_auth_database_call_duration_seconds_count", by="lane"), "{{lane}}"), unit="ops", stack=True, width=6)
    board.graph("Time of a call", "99 of 100 that succeed are faster. An attempt may take 300 ms, a read for a validation 800 ms, a change 10 s.", (quantile(0.99, "tenant_auth_database_call_duration_seconds", 'outcome="ok"', "lane"), "{{lane}}"), unit="s", width=6)
    board.graph("Reads in flight", "Of those that may be under way at once.", (f"{gauge('tenant_auth_database_calls_in_flight')} / {gauge('tenant_auth_database_calls_limit')}", "{{instance}} {{lane}}"), unit="percentunit", most=1, width=6)
    board.row("Database: writes, and what is in it")
    board.graph("Writes work, and are stalled", "Writes 1: the last change was made, which says nothing about reads; 0: it was not; no line: none was tried. Stalled 1: it got no answer, and nobody knows whether it was made.", (gauge("tenant_auth_database_up", 'operation="write"'), "{{instance}} writes"), (gauge("tenant_auth_database_writes_stalled"), "{{instance}} stalled"), most=1, width=6)
    board.graph("Changes wait", "For their turn: one call is under way at a time, and takes up to sixteen along.", (f"sum by (instance, lane) ({gauge('tenant_auth_database_writes_waiting')}) > 0", "{{instance}} {{lane}}"), width=6)
    board.graph("A change is under way", "For how long. After 10 s (TENANT_AUTH_DATABASE_WRITE_TIMEOUT) it is given up, and the next one is sent 5 to 10 s later.", (gauge("tenant_auth_database_write_under_way_seconds"), "{{instance}}"), unit="s", limit=10, width=6)
    board.graph("Since the last call", "Of which the lines above tell. A replica that has written nothing for an hour does not know whether it could.", (f"time() - {gauge('tenant_auth_database_last_tried_timestamp_seconds')}", "{{instance}} {{operation}}"), unit="s", width=6)
    board.graph("Unreadable records, held ends", "Records that cannot be read, within an hour; and what is held to be revoked, suspended or unbound although the database may lack it.", (f"sum by (table) (increase({gauge('tenant_auth_unreadable_records_total')}[1h]))", "{{table}} unreadable"), (gauge("tenant_auth_held_ends"), "{{instance}} held"), width=6)


def feed(board):
    board.row("Change feed")
    board.graph("Lag", "Since the log was last read to its end. Over a second, memory does not rely on it.", (gauge("tenant_auth_feed_lag_seconds"), "{{instance}}"), (f"count({gauge('tenant_auth_feed_enabled')} == 0)", "replicas with the feed off"), unit="s", limit=1)
    board.graph("Changes read", "And times that the log did not go on from where it was read, within an hour.", (rate("tenant_auth_feed_events_total", by="instance"), "{{instance}} a second"), (f"sum(increase({gauge('tenant_auth_feed_start_overs_total')}[1h]))", "started over"))
    board.graph("Watch", "Callers subscribed, and cut off because they fell behind, within five minutes.", (gauge("tenant_auth_watch_subscribers"), "{{instance}} subscribed"), (f"sum(increase({gauge('tenant_auth_watch_cut_off_total')}[5m]))", "cut off"))


def usage(board):
    board.row("Usage")
    board.graph("Queue", "Events that wait or are being committed, of those for which there is room.", (f"{gauge('tenant_auth_usage_queue_events')} / {gauge('tenant_auth_usage_queue_capacity_events')}", "{{instance}}"), unit="percentunit", limit=0.8, most=1, width=6)
    board.graph("Events", "By what became of them.", (rate("tenant_auth_usage_events_total", by="outcome"), "{{outcome}}"), unit="ops", stack=True, width=6)
    board.graph("Time of a commit", "Its retry included.", *[(quantile(share, "tenant_auth_usage_flush_duration_seconds"), f"{share * 100:g} %") for share in (0.5, 0.9, 0.99)], unit="s", width=6)
    board.graph("Rows written", "What the database is paid for.", (rate("tenant_auth_usage_rows_written_total", by="table"), "{{table}}"), unit="wps", stack=True, width=6)
    board.graph("Totals that differ", "From the sums of their events, when they were last compared; only where the service compares (TENANT_AUTH_USAGE_RECONCILE_INTERVAL).", (gauge("tenant_auth_usage_totals_differing"), "{{instance}}"), limit=1, width=12)
    board.graph("Since totals were compared", "Of replicas that compare. Twice the interval and an hour is a ticket.", (f"(time() - {gauge('tenant_auth_usage_reconciled_timestamp_seconds')}) and {gauge('tenant_auth_usage_reconciled_timestamp_seconds')} > 0", "{{instance}}"), (f"max({gauge('tenant_auth_usage_reconcile_interval_seconds')})", "interval"), unit="s", width=12)


def audit(board):
    complete = gauge("tenant_auth_audit_copy_complete_timestamp_seconds")
    board.row("Copy of the audit log")
    board.graph("Since it was complete", "Of replicas that write one (TENANT_AUTH_AUDIT_FILE). A quarter of an hour is a ticket.", (f"(time() - {complete}) and {complete} > 0", "{{instance}}"), unit="s", limit=900, width=12)
    board.graph("Entries and failures", "Entries that were copied, and looks for new ones that failed.", (rate("tenant_auth_audit_copied_total", by="instance"), "{{instance}} entries"), (rate("tenant_auth_audit_copy_failures_total", by="instance"), "{{instance}} failures"), unit="ops", width=12)


def process(board):
    board.row("Processes")
    board.graph("Processor", "In cores.", (rate("tenant_auth_process_cpu_seconds_total", by="instance"), "{{instance}}"), width=6)
    board.graph("Memory", "In RAM.", (gauge("tenant_auth_process_resident_memory_bytes"), "{{instance}}"), unit="bytes", width=6)
    board.graph("Files and threads", "File descriptors of those that may be open; threads.", (f"{gauge('tenant_auth_process_open_fds')} / {gauge('tenant_auth_process_max_fds')}", "{{instance}} files (1 = all)"), (gauge("tenant_auth_process_threads"), "{{instance}} threads"), width=6)
    board.graph("Late threads", "How late a thread of this process was, at most, in the last minute: it is starved of CPU.", (gauge("tenant_auth_scheduler_lag_seconds"), "{{instance}}"), unit="s", width=6)
    board.graph("Guesses refused", "Keys and sessions that are not there, asked for beyond the bound of a caller or of all.", (rate("tenant_auth_guesses_refused_total", by="instance"), "{{instance}}"), unit="reqps", width=6)
    board.graph("Log lines left out", "Of many lines of one kind only some are written.", (rate("tenant_auth_log_lines_left_out_total", by="instance"), "{{instance}}"), unit="ops", width=6)
    board.graph("Running since", "A drop is a restart.", (gauge("tenant_auth_uptime_seconds"), "{{instance}}"), unit="s", width=6)
    board.graph("Connections by worker", "Each worker thread serves its own: they should be even.", (gauge("tenant_auth_connections"), "{{instance}} worker {{worker}}"), (f"min({gauge('tenant_auth_connections_limit')})", "limit of a replica"))
    board.graph("Connections come, refused, ended", "Opened; closed at once; ended because the peer read nothing or gave up everything.", (rate("tenant_auth_connections_opened_total", by="instance"), "{{instance}} opened"), (rate("tenant_auth_connections_refused_total", by="instance"), "{{instance}} refused"), (rate("tenant_auth_connections_ended_total", by="instance, reason"), "{{instance}} {{reason}}"), unit="cps")
    board.graph("TLS handshakes that fail", "By reason.", (rate("tenant_auth_tls_handshakes_failed_total", by="instance, reason"), "{{instance}} {{reason}}"), unit="cps")
    board.graph("Spans", "By what became of them.", (rate("tenant_auth_otlp_spans_total", by="outcome"), "{{outcome}}"), unit="ops", width=12)
    board.graph("Requests to the collector", "By what is sent.", (rate("tenant_auth_otlp_exports_total", by="signal, outcome"), "{{signal}} {{outcome}}"), unit="ops", width=12)


def builds(board):
    board.row("Builds, files and clocks")
    board.table("Builds", "Which build each replica is. All should be one clean commit of main.", gauge("tenant_auth_build_info"), width=12)
    board.graph("Started", "Starts within half an hour.", (f"changes({gauge('tenant_auth_process_start_time_seconds')}[30m])", "{{instance}}"), width=6)
    board.graph("Reload refused", "1 while the new file cannot be used and the old one stays in force.", (gauge("tenant_auth_reload_refused"), "{{instance}} {{file}}"), most=1, width=6)
    board.graph(
        "Certificates and tokens expire in",
        "Less than 21 days and a quarter of the lifetime is a ticket, three days and a tenth a page. Tokens without an expiry have no line.",
        (f"{gauge('tenant_auth_certificate_expiry_timestamp_seconds')} - time()", "{{instance}} certificate {{certificate}}"),
        (f"{gauge('tenant_auth_token_expiry_timestamp_seconds')} - time()", "{{instance}} token {{token}}"),
        unit="s",
        least=None,
        width=12,
    )
    board.graph("Denied by file", "Entries of the deny list; none but in an emergency.", (gauge("tenant_auth_denied_entries"), "{{instance}} {{kind}}"), width=6)
    board.graph("Pepper missing", "1 while keys are stored under a pepper that the replica lacks: keys that it does not find are UNAVAILABLE.", (gauge("tenant_auth_pepper_missing"), "{{instance}}"), most=1, width=6)
    board.graph("Clock", "This machine's less the database's. On one replica it is that machine's; on all, the database's. Beyond 5 s it is a ticket, beyond 60 s a page.", (gauge("tenant_auth_clock_offset_seconds"), "{{instance}}"), unit="s", least=None, width=6)


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
    # What compose's Grafana calls its source.
    source = {"current": {"text": "Prometheus", "value": "prometheus"}, "label": "Prometheus", "name": "datasource", "query": "prometheus", "type": "datasource"}
    ours = {"current": {"text": "tenant-auth", "value": "tenant-auth"}}
    return {
        "annotations": {"list": []},
        "description": "tenant-auth: made by deploy/observability/dashboard.py; changes made here are lost.",
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
                variable("rpc", "RPC", 'label_values(tenant_auth_requests_total{job="$job", rpc=~"tenantauth.+"}, rpc)', **everything),
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
            sys.exit("dashboard.json is not what dashboard.py makes: python3 deploy/observability/dashboard.py")
    else:
        FILE.write_text(text)


if __name__ == "__main__":
    main()
