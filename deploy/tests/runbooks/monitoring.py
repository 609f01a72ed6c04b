"""One Prometheus that scrapes all states, and an Alertmanager stub that accepts silences."""

import json
import re
import subprocess
import urllib.parse
import urllib.request

from alertmanager_stub import AlertmanagerStub
from services import wait_until

from deployment import TOOLS, run, succeeded


class Monitoring:
    """Prometheus and the stub, with their data in a folder."""

    def __init__(self, folder, host):
        self.folder, self.host, self.processes = folder, host, []
        (folder / "targets").mkdir()
        self.prometheus = f"http://{host}:9090"
        self.alertmanager = AlertmanagerStub(host)

    def start(self, history=""):
        """`history` is OpenMetrics text of earlier samples."""
        data = self.folder / "data"
        if history:
            (self.folder / "history").write_text(history)
            succeeded(
                run(TOOLS / "promtool", "tsdb", "create-blocks-from", "openmetrics", self.folder / "history", data)
            )
        (self.folder / "prometheus.yaml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
                    "scrape_configs": [
                        {
                            "job_name": "tenant-auth",
                            "file_sd_configs": [
                                {"files": [str(self.folder / "targets/*.json")], "refresh_interval": "1s"}
                            ],
                        }
                    ],
                }
            )
        )
        self.run(
            "prometheus",
            f"--config.file={self.folder}/prometheus.yaml",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address={self.host}:9090",
        )
        wait_until("Prometheus is ready", lambda: fetch(f"{self.prometheus}/-/ready") is not None)
        return self

    def run(self, program, *options):
        log = (self.folder / f"{program}.log").open("w")
        self.processes.append(subprocess.Popen([TOOLS / program, *options], stdout=log, stderr=log))

    def scrape(self, state, hosts):
        """Adds the replicas of a state to the targets. The namespace separates states, as it separates clusters."""
        targets = [{"targets": [f"{host}:50052" for host in hosts], "labels": {"namespace": state}}]
        new = self.folder / "targets" / f"{state}.new"
        new.write_text(json.dumps(targets))
        new.rename(self.folder / "targets" / f"{state}.json")
        # Rates need two scrapes.
        wait_until(
            f"{state} was scraped",
            lambda: any(
                float(value[1]) >= 2 for _, value in self.samples(f'count_over_time(up{{namespace="{state}"}}[1m])')
            ),
        )

    def stop_scraping(self, state):
        """Stops scraping a state."""
        (self.folder / "targets" / f"{state}.json").unlink(missing_ok=True)

    def samples(self, query):
        response = fetch(f"{self.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        return [(series["metric"], series["value"]) for series in json.loads(response)["data"]["result"]]

    def query(self, query, state):
        """Returns the result of a page's query as lines. The query selects by job; this adds the state's namespace."""
        assert 'job="tenant-auth"' in query or not re.search(r"tenant_auth_", query), f"does not select by job: {query}"
        selected = query.replace('job="tenant-auth"', f'job="tenant-auth", namespace="{state}"')
        lines = []
        for labels, (_, value) in self.samples(selected):
            name = labels.pop("__name__", "")
            label_text = ", ".join(f'{key}="{label}"' for key, label in sorted(labels.items()))
            lines.append(f"{name}{{{label_text}}} {value}")
        return lines

    def silences(self):
        return list(self.alertmanager.silences)

    def end(self):
        self.alertmanager.end()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()
