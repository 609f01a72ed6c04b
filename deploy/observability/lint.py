"""Checks that rules, tests, dashboard, pages and the service's metrics are consistent. Standard library only; see `check`.

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
ADDED = {"cluster", "namespace", "job", "instance", "le"}
# Values that appear with their first count; every other value in the rules has to be in a scrape.
COUNTED = {
    "grpc_code": set(
        "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted "
        "FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated".split()
    ),
    "grpc_type": {"unary", "server_stream", "bidi_stream", "unknown"},
    "source": {"database", "fresh", "refreshing", "stale", "negative", "none"},
    "outcome": {"ok"},
}
# Labels whose values depend on the build.
OPEN = {("tenant_auth_build_info", "branch"), ("tenant_auth_build_info", "dirty"), ("tenant_auth_build_info", "commit")}
# Metrics that a service without TLS and with an embedded database does not report, and the values of their label.
CERTIFICATES, TOKENS = {"certificate": {"server", "client_ca", "database_ca"}}, {"token": {"reads", "writes"}}
SOMETIMES = {
    "tenant_auth_certificate_expiry_timestamp_seconds": CERTIFICATES,
    "tenant_auth_certificate_not_before_timestamp_seconds": CERTIFICATES,
    "tenant_auth_token_expiry_timestamp_seconds": TOKENS,
    "tenant_auth_token_issued_timestamp_seconds": TOKENS,
}
# Labels with names like these would identify tenants, keys or callers, and have unbounded values.
PERSONAL = re.compile(r"tenant(_id|_name)?|key(_id)?|session(_id)?|caller")

problems = []


def hold(condition, problem):
    if not condition:
        problems.append(problem)


def metrics():
    """Name to labels, from METRICS.md, which a test of the service compares with its source."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| \w* \| ([^|]*) \|", (ROOT / "tenant-auth-svc/METRICS.md").read_text(), re.M)
    known = {}
    for name, kind, labels in rows:
        parts = [name + part for part in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]
        known |= {part: set(re.findall(r"\w+", labels)) for part in parts}
    hold(len(known) > 40, "METRICS.md: no table of metrics")
    return known


@functools.cache
def appearing():
    """Metrics that appear with their first count: counters and histograms with labels."""
    rows = re.findall(r"^\| `(\w+)` \| (counter|histogram) \| \w* \| `", (ROOT / "tenant-auth-svc/METRICS.md").read_text(), re.M)
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
    for name, inside in re.findall(r"(?<![:\w])((?:tenant_auth|grpc_server|process)_\w+)\s*(?:\{(.*?)\})?", re.sub(r'"series", "\w+"', "", expression), re.S):
        yield name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"', inside)


def check_names(known):
    recorded = set(re.findall(r"record: (\S+)", (HERE / "alerts.yaml").read_text()))
    used, dashboard = set(), (HERE / "dashboard.json").read_text()
    for where, expression in expressions():
        for name in re.findall(r"job:tenant_auth\w+:\w+", expression):
            hold(name in recorded, f"{where}: nothing records {name}")
        for name, matchers in selectors(expression):
            used.add(name)
            hold(name in known, f"{where}: there is no metric {name}")
            for label, _, _ in matchers:
                hold(label in known.get(name, set()) | ADDED, f"{where}: {name} has no label {label}")
        for by in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression):
            for label in re.findall(r"\w+", by):
                fits = label in ADDED | {"sli"} or any(label in known.get(name, ()) for name, _ in selectors(expression))
                hold(fits, f"{where}: no metric in the expression has a label {label}")
                hold(not PERSONAL.fullmatch(label), f"{where}: {label} has unbounded values")
    for name in known:
        whole = re.sub(r"_(bucket|sum|count)$", "", name)
        hold(whole in used or any(part.startswith(whole) for part in used), f"{whole}: used by no rule, panel or page")
    for label in re.findall(r"\{\{(\w+)\}\}", dashboard):
        fits = label in ADDED | {"sli"} or any(label in labels for labels in known.values())
        hold(fits and not PERSONAL.fullmatch(label), f"dashboard.json: no metric has a label {label}")


def check_alerts():
    text = (HERE / "alerts.yaml").read_text()
    alerts = dict(re.findall(r"^      - alert: (\w+)\n(.*?)(?=^      (?:- |#)|^  [-#]|\Z)", text, re.M | re.S))
    hold(len(alerts) > 20, "alerts.yaml: no alerts")
    hold(len(alerts) == text.count("- alert:"), "alerts.yaml: a name twice, or an alert in another form")
    for name, body in alerts.items():
        hold(re.search(r"^          severity: (page|ticket)$", body, re.M), f"{name}: no severity page or ticket")
        hold("summary: " in body and "description: " in body, f"{name}: no summary or description")
        hold(f"runbook_url: deploy/observability/runbooks/{name}.md\n" in body, f"{name}: runbook_url is not that of its page")
        before = text[: text.index(f"- alert: {name}\n")].rstrip().splitlines()
        # The two burn alerts share a comment.
        shared = name == "TenantAuthErrorBudgetBurn6h"
        hold(shared or before[-1].lstrip().startswith("#"), f"{name}: no comment with the reason for its wait")
    there = pages()
    hold(set(there) == set(alerts), f"pages and alerts differ: {sorted(set(there) ^ set(alerts))}")
    for name, page in there.items():
        text = page.read_text()
        severity = re.search(r"severity: (\w+)", alerts.get(name, "severity: none")).group(1)
        hold(text.startswith(f"# {name}\n\nSeverity: {severity}."), f"{page.name}: another name or severity")
        wanted = ["What it means", "What users see", "What to look at first", "What to do", "When to escalate", "How to silence it safely"]
        hold(re.findall(r"^## (.*)", text, re.M) == wanted, f"{page.name}: other sections")
        for link in re.findall(r"\]\(([\w./-]+?)(?:#[\w-]+)?\)", text):
            hold((page.parent / link).exists(), f"{page.name}: {link} does not exist")
    return set(alerts)


def check_tests(alerts):
    """Checks that a test expects every alert to fire, and one expects it not to. promtool checks the expectations."""
    text = (HERE / "alerts_test.yaml").read_text() + (HERE / "alerts_days_test.yaml").read_text()
    told = re.findall(r"eval_time: \w+\n +alertname: (\w+)\n(?: +(exp_alerts):)?", text)
    fires, quiet = ({name for name, expected in told if bool(expected) == firing} for firing in (True, False))
    hold(fires == alerts, f"no test in which it fires, or not an alert: {sorted(alerts ^ fires)}")
    hold(quiet == alerts, f"no test in which it does not fire, or not an alert: {sorted(alerts ^ quiet)}")


def check_recorded(alerts, known, scrape):
    used = {}
    for where, expression in expressions():
        if where == "alerts.yaml":
            for name, matchers in selectors(expression):
                if name not in SOMETIMES:
                    used.setdefault(name, []).extend(matchers)
    scraped = set(re.findall(r"^(\w+)", read(scrape), re.M)) if scrape else set()
    recorded_lint.check(hold, alerts, used, known, scraped)


def check_copies():
    """The chart may read only files in its folder, and follows links. Some checkouts and archives do not keep links."""
    for name in ("alerts.yaml", "dashboard.json"):
        linked = ROOT / "deploy/helm/tenant-auth/files" / name
        same = linked.exists() and linked.read_bytes() == (HERE / name).read_bytes()
        hold(same, f"{linked.relative_to(ROOT)} is not {name}: it has to be a link to it")


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
    hold(result.returncode == 0, f"PromQL: {result.stdout}{result.stderr}")


def read(scrape):
    if not scrape.startswith("http://"):
        return Path(scrape).read_text()
    with urllib.request.urlopen(scrape, timeout=10) as answer:
        kind = answer.headers["content-type"]
        # Prometheus 3 rejects a scrape without a content type.
        hold(kind.startswith("text/plain; version=0.0.4"), f"/metrics has the content type {kind}")
        return answer.read().decode()


def check_scrape(known, scrape, promtool):
    text = read(scrape)
    series = re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.M)
    names = {name for name, _ in series}
    values = {}
    for name, inside in series:
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
        hold(set(labels) - {"le"} <= known.get(name, set()), f"/metrics: {name} has labels {sorted(labels)}")
        for label, value in labels.items():
            values.setdefault((name, label), set()).add(value)
    for name in set(SOMETIMES) - names:
        names.add(name)
        values |= {(name, label): there for label, there in SOMETIMES[name].items()}
    for name in names - set(known):
        problems.append(f"/metrics: {name} is not in METRICS.md")
    for where, expression in expressions():
        for name, matchers in selectors(expression):
            hold(name in names or name in appearing(), f"{where}: {name} is not in /metrics")
            for label, operator, value in matchers:
                if label in ADDED or value == "$rpc" or (name, label) in OPEN:
                    continue
                there = values.get((name, label), set()) | COUNTED.get(label, set()) | rpcs(label)
                if re.fullmatch(r"[\w|]+", value):
                    for one in value.split("|"):
                        hold(one in there, f"{where}: no sample of {name} has the {label} {one}")
                elif operator in ("=", "!="):
                    hold(value in there, f"{where}: no sample of {name} has the {label} {value}")
                else:
                    matching = [one for one in there if re.fullmatch(value, one)]
                    hold(matching or "SERIES" in value, f"{where}: no sample of {name} has a {label} like {value}")
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    hold(result.returncode == 0, f"promtool check metrics: {result.stdout}{result.stderr}")
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
    check_copies()
    check_promql(options.promtool)
    if options.scrape:
        check_scrape(known, options.scrape, options.promtool)
    for problem in dict.fromkeys(problems):
        print(problem)
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
