"""The chart as Helm renders it. Shared by the tests of the chart."""

import yaml

from deployment import CHART, TOOLS, run, succeeded

CASES = ["minimal", "nlb", "mesh", "everything-on", "everything-off", "autoscaling"]
# The oldest version that Chart.yaml promises and the newest that there are schemas for.
KUBERNETES = ["1.27", "1.37"]
# Kinds of operators and of the Gateway API; Kubernetes itself has no schema for them.
OPERATORS = {"GRPCRoute", "PrometheusRule", "ServiceMonitor"}
# Alert rules of the tests, instead of those that the chart ships.
ALERTS = """\
groups:
  - name: test
    rules:
      - alert: Down
        expr: up == 0
        annotations:
          summary: "{{ $labels.instance }} is down"
"""


def values(case):
    return ["--values", CHART / "ci" / f"{case}.yaml"]


def template(chart, case=None, more="", *args, version="1.37", release="auth", namespace="prod"):
    """Renders a case with one more values file. Uses files, as users do: --set parses values to other types."""
    files = (values(case) if case else []) + ["--values", "-"]
    options = ["--namespace", namespace, "--kube-version", version]
    return run(TOOLS / "helm", "template", release, chart, *options, *files, *args, stdin=more)


def render(chart, case=None, more="", *args, **options):
    return Rendered(succeeded(template(chart, case, more, *args, **options)))


class Rendered:
    """The manifests of one case, by kind."""

    def __init__(self, text):
        self.objects = [each for each in yaml.safe_load_all(text) if each]

    def kinds(self):
        return sorted(each["kind"] for each in self.objects)

    def all(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind):
        (only,) = self.all(kind)
        return only

    def named(self, kind, name):
        (only,) = [each for each in self.all(kind) if each["metadata"]["name"] == name]
        return only

    def pod(self):
        return self.one("Deployment")["spec"]["template"]["spec"]

    def container(self):
        (only,) = self.pod()["containers"]
        return only

    def job(self):
        return self.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]

    def environment(self):
        return {each["name"]: each["value"] for each in self.container()["env"] if "value" in each}

    def policy(self):
        """The Deployment of the replicas."""
        labels = self.one("Deployment")["spec"]["selector"]["matchLabels"]
        (only,) = [each for each in self.all("NetworkPolicy") if each["spec"]["podSelector"]["matchLabels"] == labels]
        return only["spec"]
