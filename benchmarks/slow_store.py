# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A store on this machine that can fail: requests and time are bounded."""

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

MAX_REQUESTS = 20_000


class Store(socketserver.ThreadingTCPServer):
    """Serves the files of a folder, by ranges, at 127.0.0.1.

    Args:
        folder: Of the files.
        latency: Seconds before each answer.
        bandwidth: Bytes a second of each answer; None for no bound.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, folder: Path, latency: float = 0.0, bandwidth: float | None = None) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.folder, self.latency, self.bandwidth = folder, latency, bandwidth
        self.faults: list[str] = []  # of the next requests of content, in order
        self.has_ranges = True
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return f'http://127.0.0.1:{self.server_address[1]}'

    def handle_error(self, request, client_address) -> None:
        """Say nothing of connections that the other side has ended."""


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, with_content: bool) -> None:
        store, file = self.server, self.server.folder / self.path.lstrip('/')
        store.requests.append(f'{self.path} {self.headers.get("Range", "")}')
        if len(store.requests) > MAX_REQUESTS:
            self.send_error(503)
            return
        time.sleep(store.latency)
        if not file.is_file():
            self.send_error(404)
            return
        fault = store.faults.pop(0) if with_content and store.faults else ''
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == 'stall':
            time.sleep(1.5)
            return
        content, wanted = file.read_bytes(), self.headers.get('Range')
        whole = len(content)
        if wanted and store.has_ranges:
            first, last = wanted.removeprefix('bytes=').split('-')
            start, end = int(first), min(int(last or whole - 1), whole - 1)
            content = content[start : end + 1]
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{end}/{whole}')
        else:
            self.send_response(200)
        if store.has_ranges:
            self.send_header('Accept-Ranges', 'bytes')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if with_content:
            self._send(content[: len(content) // 2] if fault == 'drop' else content)

    def _send(self, content: bytes) -> None:
        bandwidth = self.server.bandwidth
        step = len(content) or 1 if bandwidth is None else 2**14
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            if bandwidth is not None:
                time.sleep(min(step, len(content) - start) / bandwidth)


@contextmanager
def serve(folder: Path, latency: float = 0.0, bandwidth: float | None = None) -> Iterator[Store]:
    """Serve a folder until the end of the block."""
    with Store(folder, latency, bandwidth) as store:
        thread = threading.Thread(target=store.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield store
        finally:
            store.shutdown()
            thread.join(5)
