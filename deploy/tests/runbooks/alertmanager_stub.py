"""A stub of the part of Alertmanager that accepts silences. amtool, which is real, checks matchers and times before
its request.

Alertmanager itself cannot be unpacked like Prometheus: Debian's build reads its templates from a path that only
exists after an installation.
"""

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class AlertmanagerStub:
    """`/api/v2/silences`, as far as `amtool silence add` and `query` need it."""

    def __init__(self, host):
        silences = self.silences = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                silence = json.loads(self.rfile.read(int(self.headers["content-length"])))
                silence |= {"id": str(uuid.uuid4()), "status": {"state": "active"}, "updatedAt": silence["startsAt"]}
                silences.append(silence)
                self.respond({"silenceID": silence["id"]})

            def do_GET(self):
                self.respond(silences)

            def respond(self, body):
                code = 200 if self.path.startswith("/api/v2/silences") else 404
                text = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer((host, 9093), Handler)
        self.url = f"http://{host}:9093"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()
