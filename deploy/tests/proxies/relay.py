"""Stands between a proxy and the service, counts the questions, and cuts connections."""

import contextlib
import socket
import threading

from services import TIMEOUT

# What a connection over HTTP/2 begins with; then come frames, each with 9 bytes before its content.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, FRAME_HEAD = 1, 9


class Relay:
    """Listens on a free port, until the tests end."""

    def __init__(self, service):
        host, port = service.split(":")
        self.service = host, int(port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.questions, self.connections, self.lock = 0, [], threading.Lock()
        # Called with the number of a question on its connection. Returns what becomes of it: "pass", "cut" the connection
        # before the answer, or "keep" the question from the service.
        self.treat = lambda number: "pass"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                proxy, _ = self.listener.accept()
                service = socket.create_connection(self.service)
                thread = threading.Thread(target=self.carry_questions, args=(proxy, service), daemon=True)
                self.connections.append((proxy, thread))
                thread.start()
                threading.Thread(target=carry_answers, args=(service, proxy), daemon=True).start()

    def carry_questions(self, proxy, service):
        data, number = b"", 0
        with contextlib.suppress(OSError):
            while received := proxy.recv(65536):
                found, data = take_questions(data + received)
                number += found
                with self.lock:
                    self.questions += found
                treatment = self.treat(number) if found else "pass"
                if treatment == "pass":
                    service.sendall(received)
                elif treatment == "cut":
                    break
        close(proxy, service)

    def close_connections(self):
        """Closes what the proxy has kept, and waits until it has noticed."""
        closed, self.connections = self.connections, []
        for proxy, thread in closed:
            with contextlib.suppress(OSError):
                proxy.shutdown(socket.SHUT_WR)
            thread.join(TIMEOUT)
            assert not thread.is_alive(), "the proxy does not notice that a connection is closed"

    def end(self):
        close(self.listener, *(proxy for proxy, _ in self.connections))


def take_questions(data):
    """How many questions begin in this data, and the incomplete rest of it."""
    data = data.removeprefix(PREFACE)
    found = 0
    if data.startswith(b"GET "):
        *heads, data = data.split(b"\r\n\r\n")
        return len(heads), data
    while len(data) >= FRAME_HEAD and len(data) >= (length := FRAME_HEAD + int.from_bytes(data[:3])):
        found += data[3] == HEADERS
        data = data[length:]
    return found, data


def carry_answers(service, proxy):
    with contextlib.suppress(OSError):
        while received := service.recv(65536):
            proxy.sendall(received)
    close(service, proxy)


def close(*sockets):
    for one in sockets:
        # Wakes the thread that reads from it.
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
