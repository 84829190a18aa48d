"""An S3-compatible server on loopback that can be killed, slowed down and started again.

Clients connect through a port of ours that forwards bytes. So the server can restore its state
while that port is closed, as one with disks would, and the connection can be made slow.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

# moto keeps objects in memory alone. Here each is also a file, written before the answer, so that
# whatever a client was told survives a kill.
SERVER = """
import datetime, os, sys, threading, urllib.parse
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import S3Backend, s3_backends
from moto.server import ThreadedMotoServer

port, folder = int(sys.argv[1]), sys.argv[2]
put, delete = S3Backend.put_object, S3Backend.delete_object

def place(bucket, key):
    return os.path.join(folder, urllib.parse.quote(f"{bucket}/{key}", safe=""))

def kept_put(self, bucket_name, key_name, value, *more, **named):
    found = put(self, bucket_name, key_name, value, *more, **named)
    partial = f"{place(bucket_name, key_name)}.{threading.get_ident()}.part"
    with open(partial, "wb") as file:
        file.write(value)
    os.replace(partial, place(bucket_name, key_name))
    return found

def kept_delete(self, bucket_name, key_name, *more, **named):
    if os.path.exists(place(bucket_name, key_name)):
        os.unlink(place(bucket_name, key_name))
    return delete(self, bucket_name, key_name, *more, **named)

backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
for name in sorted(os.listdir(folder)):
    if name.endswith(".part"):
        continue
    bucket, _, key = urllib.parse.unquote(name).partition("/")
    if bucket not in backend.buckets:
        backend.create_bucket(bucket, "us-east-1")
    with open(os.path.join(folder, name), "rb") as file:
        found = put(backend, bucket, key, file.read())
    at = os.path.getmtime(os.path.join(folder, name))
    found.last_modified = datetime.datetime.fromtimestamp(at, datetime.UTC).replace(tzinfo=None)
S3Backend.put_object, S3Backend.delete_object = kept_put, kept_delete
ThreadedMotoServer("127.0.0.1", port, verbose=False).start()
print("ready", flush=True)
threading.Event().wait()
"""
KEYS = {
    "AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab-secret", "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip


class ObjectStore:
    """The server and its door; a context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "objects"
        self.folder.mkdir()
        self.log = (folder / "server.log").open("a", encoding="utf-8")
        self.process: subprocess.Popen[str] | None = None
        self.door = Door()
        self.env = {**os.environ, **KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.door.port}"}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self.log.close()

    def start(self) -> None:
        """Start the server with all that it holds, then open the door."""
        port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port), str(self.folder)], text=True,
            stdout=subprocess.PIPE, stderr=self.log,
        )  # fmt: skip
        if self.process.stdout is None or self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the object store does not start: see {self.log.name}")
        self.door.open(port)

    def kill(self) -> None:
        """Kill the server; connections break, new ones are refused."""
        self.door.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Door:
    """Forwards connections from a port that stays the same; ``delay_s`` before each reply."""

    def __init__(self) -> None:
        self.port = free_port()
        self.delay_s = 0.0
        self.open_to: int | None = None
        self.ends: list[socket.socket] = []
        self.listener: socket.socket | None = None

    def open(self, port: int) -> None:
        """Let clients in to a port."""
        self.open_to = port
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def close(self) -> None:
        """Break all connections and refuse new ones."""
        listener, self.listener, self.open_to = self.listener, None, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        ends, self.ends = self.ends, []
        for end in ends:
            _break(end)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.open_to or 0))
            except OSError:
                return
            self.ends += [client, server]
            for source, target, delay in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._forward, args=(source, target, delay), daemon=True
                ).start()

    def _forward(self, source: socket.socket, target: socket.socket, delay: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if delay and self.delay_s:
                    time.sleep(self.delay_s)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            _break(end)


def _break(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def client(store: ObjectStore) -> Any:
    """Return a file system of the store that is independent of the code under test."""
    from pyarrow.fs import S3FileSystem

    return S3FileSystem(
        access_key=KEYS["AWS_ACCESS_KEY_ID"], secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region=KEYS["AWS_REGION"], endpoint_override=store.env["AWS_ENDPOINT_URL"],
        allow_bucket_creation=True,
    )  # fmt: skip
