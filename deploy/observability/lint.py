"""Checks that rules, tests, dashboard, runbooks and the service's metrics are consistent; called by `check`.

python3 lint.py --promtool PATH            checks that need no service
python3 lint.py --promtool PATH SCRAPE     also with the /metrics of a running service: a file, or an http:// address
"""

import argparse
import functools
import json
import re
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import recorded_lint

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Labels that Prometheus adds to every series, and the Prometheus operator to those of a cluster.
TARGET_LABELS = {"cluster", "namespace", "job", "instance", "le"}
# Values that appear with their first count; every other value in the rules has to be in a scrape.
LATE_VALUES = {
    "grpc_code": set(
        "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted"
        " FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated".split()
    ),
    "grpc_type": {"unary", "server_stream", "bidi_stream", "unknown"},
    "verdict": set(
        "valid unknown malformed expired revoked tenant_suspended insufficient_scope unbound session_expired"
        " tenant_mismatch".split()
    ),
    "source": {"database", "fresh", "refreshing", "stale", "negative", "none"},
    "outcome": {"ok"},
    "result": {"admitted", "quota_exceeded", "rate_limited"},
    "code": {"ADMITTED", "UNDECIDED", "PROXY_MISCONFIGURED", "UNKNOWN_CALLER"},
}
# Labels whose values depend on the build.
BUILD_LABELS = {
    ("tenant_auth_build_info", "branch"),
    ("tenant_auth_build_info", "dirty"),
    ("tenant_auth_build_info", "commit"),
}
# Metrics that a service without TLS and with an embedded database does not report, and the values of their label.
CERTIFICATES, TOKENS = {"certificate": {"server", "client_ca", "database_ca"}}, {"token": {"reads", "writes"}}
OPTIONAL_METRICS = {
    # Without a read URL.
    "tenant_auth_database_read_replica_used": {},
    "tenant_auth_database_read_replica_lag_seconds": {},
    "tenant_auth_database_read_replica_lag_changes": {},
    "tenant_auth_database_reads_total": {"source": {"read_replica", "primary"}},
    "tenant_auth_database_read_fallbacks_total": {},
    "tenant_auth_certificate_expiry_timestamp_seconds": CERTIFICATES,
    "tenant_auth_certificate_not_before_timestamp_seconds": CERTIFICATES,
    "tenant_auth_token_expiry_timestamp_seconds": TOKENS,
    "tenant_auth_token_issued_timestamp_seconds": TOKENS,
}
# Labels with names like these would identify tenants, keys or callers, and have unbounded values.
UNBOUNDED_LABELS = re.compile(r"tenant(_id|_name)?|key(_id)?|session(_id)?|caller")

problems = []


def expect(condition, problem):
    if not condition:
        problems.append(problem)


def metrics():
    """Name to labels, from METRICS.md, which a test of the service compares with its source."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| \w* \| ([^|]*) \|", (ROOT / "tenant-auth-svc/METRICS.md").read_text(), re.M
    )
    known = {}
    for name, kind, labels in rows:
        parts = [name + part for part in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]
        known |= {part: set(re.findall(r"\w+", labels)) for part in parts}
    expect(len(known) > 40, "METRICS.md: no table of metrics")
    return known


@functools.cache
def late_metrics():
    """Metrics that appear with their first count: counters and histograms with labels."""
    rows = re.findall(
        r"^\| `(\w+)` \| (counter|histogram) \| \w* \| `", (ROOT / "tenant-auth-svc/METRICS.md").read_text(), re.M
    )
    return {name + part for name, _ in rows for part in ("", "_bucket", "_sum", "_count")}


def expressions():
    """Every PromQL expression of rules, dashboard and pages, with its origin."""
    rules = re.findall(r"^ +expr: (?:\|\n((?:          .*\n|\n)+)|(.+)\n)", (HERE / "alerts.yaml").read_text(), re.M)
    yield from (("alerts.yaml", block or line) for block, line in rules)
    for panel in json.loads((HERE / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield f"dashboard.json, {panel['title']}", target["expr"]
    for page in pages().values():
        for block in re.findall(r"^```promql\n(.*?)^```", page.read_text(), re.M | re.S):
            yield from ((page.name, line) for line in block.splitlines() if line)


def pages():
    return {page.stem: page for page in (HERE / "runbooks").glob("*.md")}


def selectors(expression):
    """Each metric in PromQL, with its matchers: label, operator, value. Recorded series have a colon before them."""
    for name, inside in re.findall(
        r"(?<![:\w])((?:tenant_auth|grpc_server|process)_\w+)\s*(?:\{(.*?)\})?",
        re.sub(r'"series", "\w+"', "", expression),
        re.S,
    ):
        yield name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"', inside)


def check_names(known):
    recorded = set(re.findall(r"record: (\S+)", (HERE / "alerts.yaml").read_text()))
    used, dashboard = set(), (HERE / "dashboard.json").read_text()
    for where, expression in expressions():
        for name in re.findall(r"job:tenant_auth\w+:\w+", expression):
            expect(name in recorded, f"{where}: nothing records {name}")
        for name, matchers in selectors(expression):
            used.add(name)
            expect(name in known, f"{where}: there is no metric {name}")
            for label, _, _ in matchers:
                expect(label in known.get(name, set()) | TARGET_LABELS, f"{where}: {name} has no label {label}")
        for by in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression):
            for label in re.findall(r"\w+", by):
                fits = label in TARGET_LABELS | {"sli"} or any(
                    label in known.get(name, ()) for name, _ in selectors(expression)
                )
                expect(fits, f"{where}: no metric in the expression has a label {label}")
                expect(not UNBOUNDED_LABELS.fullmatch(label), f"{where}: {label} has unbounded values")
    for name in known:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        expect(base in used or any(part.startswith(base) for part in used), f"{base}: used by no rule, panel or page")
    for label in re.findall(r"\{\{(\w+)\}\}", dashboard):
        fits = label in TARGET_LABELS | {"sli"} or any(label in labels for labels in known.values())
        expect(fits and not UNBOUNDED_LABELS.fullmatch(label), f"dashboard.json: no metric has a label {label}")


def check_alerts():
    text = (HERE / "alerts.yaml").read_text()
    alerts = dict(re.findall(r"^      - alert: (\w+)\n(.*?)(?=^      (?:- |#)|^  [-#]|\Z)", text, re.M | re.S))
    expect(len(alerts) > 20, "alerts.yaml: no alerts")
    expect(len(alerts) == text.count("- alert:"), "alerts.yaml: a name twice, or an alert in another form")
    for name, body in alerts.items():
        expect(re.search(r"^          severity: (page|ticket)$", body, re.M), f"{name}: no severity page or ticket")
        expect("summary: " in body and "description: " in body, f"{name}: no summary or description")
        expect(
            f"runbook_url: deploy/observability/runbooks/{name}.md\n" in body,
            f"{name}: runbook_url is not that of its page",
        )
        before = text[: text.index(f"- alert: {name}\n")].rstrip().splitlines()
        # The two burn alerts share a comment.
        shared = name == "TenantAuthErrorBudgetBurn6h"
        expect(shared or before[-1].lstrip().startswith("#"), f"{name}: no comment with the reason for its wait")
    found = pages()
    expect(set(found) == set(alerts), f"pages and alerts differ: {sorted(set(found) ^ set(alerts))}")
    for name, page in found.items():
        text = page.read_text()
        severity = re.search(r"severity: (\w+)", alerts.get(name, "severity: none")).group(1)
        expect(text.startswith(f"# {name}\n\nSeverity: {severity}."), f"{page.name}: another name or severity")
        sections = [
            "What it means",
            "What users see",
            "What to look at first",
            "What to do",
            "When to escalate",
            "How to silence it safely",
        ]
        expect(re.findall(r"^## (.*)", text, re.M) == sections, f"{page.name}: other sections")
        for link in re.findall(r"\]\(([\w./-]+?)(?:#[\w-]+)?\)", text):
            expect((page.parent / link).exists(), f"{page.name}: {link} does not exist")
    return set(alerts)


def check_tests(alerts):
    """Checks that a test expects every alert to fire, and one expects it not to. promtool checks the expectations."""
    text = (HERE / "alerts_test.yaml").read_text() + (HERE / "alerts_days_test.yaml").read_text()
    expectations = re.findall(r"eval_time: \w+\n +alertname: (\w+)\n(?: +(exp_alerts):)?", text)
    fired, not_fired = (
        {name for name, expected in expectations if bool(expected) == firing} for firing in (True, False)
    )
    expect(fired == alerts, f"no test in which it fires, or not an alert: {sorted(alerts ^ fired)}")
    expect(not_fired == alerts, f"no test in which it does not fire, or not an alert: {sorted(alerts ^ not_fired)}")


def check_recorded(alerts, known, scrape):
    used = {}
    for where, expression in expressions():
        if where == "alerts.yaml":
            for name, matchers in selectors(expression):
                if name not in OPTIONAL_METRICS:
                    used.setdefault(name, []).extend(matchers)
    # A recording lacks what no replica had counted, and so does a scrape.
    scraped = set(re.findall(r"^(\w+)", read(scrape), re.M)) | late_metrics() if scrape else set()
    recorded_lint.check(expect, alerts, used, known, scraped)


def check_chart_links():
    """The chart may read only files in its folder, and follows links. Some checkouts and archives do not keep links."""
    for name in ("alerts.yaml", "dashboard.json"):
        linked = ROOT / "deploy/helm/tenant-auth/files" / name
        same = linked.exists() and linked.read_bytes() == (HERE / name).read_bytes()
        expect(same, f"{linked.relative_to(ROOT)} is not {name}: it has to be a link to it")


def check_promql(promtool):
    """Has promtool parse every expression; the dashboard's variables are filled in."""
    rules = []
    for place, (_, expression) in enumerate(expressions()):
        for name, value in {"$__rate_interval": "5m", "$job": "tenant-auth", "$instance": ".*", "$rpc": ".*"}.items():
            expression = expression.replace(name, value)
        rules.append({"record": f"lint:{place}", "expr": expression})
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        # JSON is YAML.
        json.dump({"groups": [{"name": "lint", "rules": rules}]}, file)
        file.flush()
        result = subprocess.run([promtool, "check", "rules", file.name], capture_output=True, text=True, check=False)
    expect(result.returncode == 0, f"PromQL: {result.stdout}{result.stderr}")


def read(scrape):
    if not scrape.startswith("http://"):
        return Path(scrape).read_text()
    with urllib.request.urlopen(scrape, timeout=10) as answer:
        kind = answer.headers["content-type"]
        # Prometheus 3 rejects a scrape without a content type.
        expect(kind.startswith("text/plain; version=0.0.4"), f"/metrics has the content type {kind}")
        return answer.read().decode()


def check_scrape(known, scrape, promtool):
    text = read(scrape)
    series = re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.M)
    names = {name for name, _ in series}
    values = {}
    for name, inside in series:
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
        expect(set(labels) - {"le"} <= known.get(name, set()), f"/metrics: {name} has labels {sorted(labels)}")
        for label, value in labels.items():
            values.setdefault((name, label), set()).add(value)
    for name in set(OPTIONAL_METRICS) - names:
        names.add(name)
        values |= {(name, label): existing for label, existing in OPTIONAL_METRICS[name].items()}
    for name in names - set(known):
        problems.append(f"/metrics: {name} is not in METRICS.md")
    for where, expression in expressions():
        for name, matchers in selectors(expression):
            expect(name in names or name in late_metrics(), f"{where}: {name} is not in /metrics")
            for label, operator, value in matchers:
                if label in TARGET_LABELS or value == "$rpc" or (name, label) in BUILD_LABELS:
                    continue
                existing = values.get((name, label), set()) | LATE_VALUES.get(label, set()) | rpcs(label)
                if re.fullmatch(r"[\w|]+", value):
                    for choice in value.split("|"):
                        expect(choice in existing, f"{where}: no sample of {name} has the {label} {choice}")
                elif operator in ("=", "!="):
                    expect(value in existing, f"{where}: no sample of {name} has the {label} {value}")
                else:
                    matching = [each for each in existing if re.fullmatch(value, each)]
                    expect(matching or "SERIES" in value, f"{where}: no sample of {name} has a {label} like {value}")
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    expect(result.returncode == 0, f"promtool check metrics: {result.stdout}{result.stderr}")
    print(f"{len(series)} series of {len(names)} names in {scrape}")


@functools.cache
def rpcs(label):
    """All values of the labels of RPCs, which appear with their first call, from the contract."""
    services, methods = {"unknown"}, {"unknown"}
    for file in sorted((ROOT / "proto").rglob("*.proto")):
        text = file.read_text()
        package = re.search(r"^package ([\w.]+);", text, re.M).group(1)
        services |= {f"{package}.{name}" for name in re.findall(r"^service (\w+)", text, re.M)}
        methods |= set(re.findall(r"^ +rpc (\w+)", text, re.M))
    return {"grpc_service": services, "grpc_method": methods}.get(label, set())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--promtool", required=True)
    parser.add_argument("scrape", nargs="?")
    options = parser.parse_args()
    known = metrics()
    check_names(known)
    alerts = check_alerts()
    check_tests(alerts)
    check_recorded(alerts, known, options.scrape)
    check_chart_links()
    check_promql(options.promtool)
    if options.scrape:
        check_scrape(known, options.scrape, options.promtool)
    for problem in dict.fromkeys(problems):
        print(problem)
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
