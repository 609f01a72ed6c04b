"""The processes of a recording: a database whose faults are switched by commands, and replicas of the service."""

import asyncio
import contextlib
import os
import signal
import socket

START_TIMEOUT = 60
# The kernel kills the program when its parent ends, so that a killed recorder leaves nothing behind. setpriv
# (util-linux) sets this, because Python code between fork and exec runs beside the threads of gRPC, and can crash.
END_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


def free_ports(count):
    """Returns unused ports. All are kept open until the last is found, so that no two are the same."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


class Database:
    """`hrana-test-server`: SQL over HTTP on the real engine, with faults."""

    def __init__(self, binary):
        self.binary = binary
        (self.port,) = free_ports(1)

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            *END_WITH_PARENT, self.binary, "--listen", f"127.0.0.1:{self.port}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await asyncio.wait_for(self.process.stdout.readline(), START_TIMEOUT)

    async def command(self, line):
        """Switches a fault, and waits until it is in effect."""
        self.process.stdin.write(f"{line}\n".encode())
        answer = (await asyncio.wait_for(self.process.stdout.readline(), START_TIMEOUT)).decode().strip()
        if answer != "ok":
            raise RuntimeError(f"the database rejected {line!r}: {answer or 'it has exited'}")

    async def end(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class SlowProxy:
    """A TCP proxy between one replica and the database, which delays the database's responses by `delay` seconds."""

    def __init__(self, port):
        self.database, self.delay = port, 0.0

    async def start(self):
        self.server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def relay(self, reader, writer):
        try:
            database_reader, database_writer = await asyncio.open_connection("127.0.0.1", self.database)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(
            self.pipe(reader, database_writer, slow=False), self.pipe(database_reader, writer, slow=True)
        )

    async def pipe(self, reader, writer, *, slow):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if slow and self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        writer.close()


class Replica:
    """One `tenant-auth-svc serve` on its own ports, which it keeps through restarts, and so its name."""

    def __init__(self, name, binary, folder, database_port, settings):
        self.name, self.binary, self.folder = name, binary, folder
        self.grpc, self.ops = free_ports(2)
        self.instance = f"{name}:50052"
        self.settings = {
            "TENANT_AUTH_DATABASE_URL": f"http://127.0.0.1:{database_port}",
            "TENANT_AUTH_CREATE_SCHEMA": "true",
            "TENANT_AUTH_CALLERS_FILE": str(folder / "callers.toml"),
            "TENANT_AUTH_LISTEN": f"127.0.0.1:{self.grpc}",
            "TENANT_AUTH_OPS_LISTEN": f"127.0.0.1:{self.ops}",
            "TENANT_AUTH_LOG_FORMAT": "json",
        } | settings
        self.process = None

    async def start(self, *, ready=True):
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("TENANT_AUTH_", "OTEL_"))
        }
        with (self.folder / f"{self.name}.log").open("a") as log:
            self.process = await asyncio.create_subprocess_exec(
                *END_WITH_PARENT, self.binary, "serve", env=inherited | self.settings, stdout=log, stderr=log
            )
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while ready and not await self.is_ready():
            if self.process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"replica {self.name} did not become ready: see {self.folder}/{self.name}.log")
            await asyncio.sleep(0.2)

    async def is_ready(self):
        status, _ = await self.get("/readyz")
        return status == 200

    async def get(self, path, timeout=5):
        """Status and text of a page of its port for operators; (0, "") if there is no response."""
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.ops)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.instance}\r\nConnection: close\r\n\r\n".encode())
                answer = (await reader.read()).decode()
                writer.close()
        except (OSError, TimeoutError):
            return 0, ""
        head, _, body = answer.partition("\r\n\r\n")
        if not head.startswith("HTTP/1.1 "):
            return 0, ""
        if "transfer-encoding: chunked" in head.lower():
            body = unchunked(body)
        return int(head.split(" ", 2)[1]), body

    async def end(self, signal_number=signal.SIGKILL):
        """Stops it, and waits until it has exited: SIGTERM with the drain of a rollout."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal_number)
        await self.process.wait()


def unchunked(body):
    parts = []
    while body:
        size, _, body = body.partition("\r\n")
        length = int(size, 16)
        if not length:
            break
        # Metrics are ASCII: a character is a byte.
        parts.append(body[:length])
        body = body[length + 2 :]
    return "".join(parts)
