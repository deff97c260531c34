"""A server on this machine that keeps what it is sent, to show what is sent to whom."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Listener:
    """What a server answers, and what it was sent.

    Attributes:
        uri: address of the server.
        status: of every answer.
        headers: of every answer.
        page: body of every answer.
        requests: request line and headers of each request.
    """

    def __init__(self, port: int) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self.status, self.page = 200, "OK"
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []


@contextmanager
def listening() -> Iterator[Listener]:
    """Start a server that answers every request alike, and end it."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            listener.requests.append(f"{self.requestline}\n{self.headers}")
            self.send_response(listener.status)
            for name, value in listener.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(listener.page.encode())))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(listener.page.encode())

        do_GET = do_POST = do_PUT = do_HEAD = do_PATCH = answer  # noqa: N815

        def log_message(self, format: str, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener = Listener(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
