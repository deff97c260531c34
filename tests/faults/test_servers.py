"""A record on a server that is away, slow, or answers with errors or a login page.

Between the campaign and a real MLflow server stands a proxy, which does what its mode says.
"""

import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow_server import Server

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.filterwarnings("default")]

LOGIN = b"<html><form action='/login'>Sign in <input name='user'></form></html>"
MODES = ["away", "slow", "answering 500", "a login page"]


class Proxy:
    """Pass requests to a server, or do what ``mode`` says; the mode is a name of MODES or empty."""

    def __init__(self, upstream):
        proxy = self
        self.mode = ""

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if proxy.mode == "away":
                    self.close_connection = True
                    return
                if proxy.mode == "slow":
                    time.sleep(2)
                status, kind, page = proxy.page() or forward(upstream, self, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, format, *values):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def page(self):
        if self.mode == "answering 500":
            return 500, "text/plain", b"internal error"
        return (200, "text/html", LOGIN) if self.mode == "a login page" else None


def forward(upstream, handler, body):
    """Pass a request on; return status, type and body of the answer."""
    kept = ("content-type", "accept")
    headers = {name: value for name, value in handler.headers.items() if name.lower() in kept}
    request = urllib.request.Request(
        upstream + handler.path, data=body or None, headers=headers, method=handler.command
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Content-Type", ""), error.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start an MLflow server, which takes long."""
    one = Server(tmp_path_factory.mktemp("server"))
    one.start()
    yield one
    one.stop()


@pytest.fixture
def proxy(server, monkeypatch):
    """Start a proxy before an MLflow server without records, which campaigns write to."""
    from mlflow import MlflowClient

    one = Proxy(server.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", one.uri)
    yield one
    one.http.shutdown()
    one.http.server_close()
    client = MlflowClient(server.uri)
    for experiment in client.search_experiments(filter_string="name = 'long'"):
        client.rename_experiment(experiment.experiment_id, f"past {experiment.experiment_id}")


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_fails_in_mid_run_and_at_the_end_costs_nothing(
    mode, proxy, driver, long, tmp_path, whole, atat, end_of, draws, note_fault
):
    _, expected = whole(long)
    folder = tmp_path / "long"
    one = driver("run", long, folder)
    one.until(lambda: one.running())
    time.sleep(draws.uniform(0, 3))
    met, proxy.mode = f"{len(one.finished())} finished", mode
    code = one.wait()
    assert code in (0, 1), one.said()
    assert "Traceback" not in one.said(), one.said()
    assert len(one.said().splitlines()) < 25, one.said()
    line = one.said().strip().splitlines()[-1]
    for command in ("verify", "report"):
        told = atat(command, "long", "--out", folder)
        assert told.code == 2 or mode == "slow", told.out
        note_fault(f"server {mode}, atat {command}", "after the run", told.line, "one line")
    proxy.mode = ""
    again = driver("run", long, folder)
    assert again.wait() == 0, again.said()
    assert end_of(folder, proxy.uri) == expected
    assert atat("verify", "long", "--out", folder).code == 0
    note_fault(f"server {mode}", met, line, "undisturbed table")


@pytest.mark.parametrize("mode", ["away", "answering 500", "a login page"])
def test_a_run_whose_server_fails_from_the_start_is_one_line_and_writes_nothing(
    mode, proxy, long, tmp_path, atat, note_fault
):
    proxy.mode = mode
    told = atat("run", long, "--out", tmp_path / "long")
    assert told.code == 2, told.out
    assert not (tmp_path / "long").exists()
    note_fault(f"server {mode}, atat run", "from the start", told.line, "nothing written")
