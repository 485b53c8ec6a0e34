"""`make data`: files of one commit, checked, gone on with after a cut; without a connection it says what to do."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nbutils.files import DataError
from tools import fetch_jmed_llm
from tools.fetch_jmed_llm import fetch, main

CONTENT = {"CRNER.csv": b"case reports " * 20_000, "NRNER.csv": b"nursing records " * 10_000}


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT; `breaks_after` bytes the first answer ends, as when a line is cut."""

    asked: list
    breaks_after = None
    understands_ranges = True
    content = CONTENT

    def do_GET(self):
        body = self.content[self.path.rpartition("/")[2]]
        wanted = self.headers.get("Range")
        self.asked.append((self.path.rpartition("/")[2], wanted))
        begin = int(wanted[len("bytes=") : -1]) if wanted and self.understands_ranges else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        end, type(self).breaks_after = self.breaks_after, None
        self.wfile.write(body[begin:end])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    handler = type("Once", (Server,), {"asked": []})
    files = {name: (hashlib.sha256(body).hexdigest(), len(body), "a licence") for name, body in CONTENT.items()}
    monkeypatch.setattr(fetch_jmed_llm, "FILES", files)
    monkeypatch.setattr(fetch_jmed_llm.time, "sleep", lambda _: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        handler.address = f"http://127.0.0.1:{running.server_port}/datasets/all"
        yield handler
        running.shutdown()


def test_both_files_arrive_whole_and_a_second_call_asks_for_nothing(server, tmp_path, capsys):
    assert main([str(tmp_path / "jmed"), "--source", server.address]) == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "jmed").iterdir()} == CONTENT
    assert "a licence" in capsys.readouterr().out
    fetch(tmp_path / "jmed", server.address)
    assert len(server.asked) == 2


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(server, tmp_path):
    server.breaks_after = 100_000
    fetch(tmp_path, server.address, progress=False)
    assert server.asked[:2] == [("CRNER.csv", None), ("CRNER.csv", "bytes=100000-")]
    assert (tmp_path / "CRNER.csv").read_bytes() == CONTENT["CRNER.csv"]


def test_a_server_that_cannot_go_on_is_asked_for_all_of_it(server, tmp_path):
    server.understands_ranges = False
    (tmp_path / ".CRNER.csv.part").write_bytes(b"case re")
    fetch(tmp_path, server.address, progress=False)
    assert (tmp_path / "CRNER.csv").read_bytes() == CONTENT["CRNER.csv"]


def test_another_file_is_not_accepted_and_leaves_nothing(server, tmp_path):
    server.content = CONTENT | {"CRNER.csv": b"x" * len(CONTENT["CRNER.csv"])}
    with pytest.raises(DataError, match="SHA-256"):
        fetch(tmp_path, server.address, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_and_differs_is_left_as_it_is(server, tmp_path):
    (tmp_path / "CRNER.csv").write_text("my own")
    with pytest.raises(DataError, match="move it away"):
        fetch(tmp_path, server.address, progress=False)
    assert (tmp_path / "CRNER.csv").read_text() == "my own" and not server.asked


def test_a_proxy_is_asked_when_the_environment_names_one(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address.removesuffix("/datasets/all"))
    monkeypatch.setenv("no_proxy", "")
    fetch(tmp_path, "http://data.example.org/datasets/all", progress=False)
    assert (tmp_path / "NRNER.csv").read_bytes() == CONTENT["NRNER.csv"]


def test_without_a_connection_it_says_what_to_do_by_hand(server, tmp_path, capsys):
    assert main([str(tmp_path), "--source", "http://127.0.0.1:9/datasets/all"]) == 1
    said = capsys.readouterr().err
    assert fetch_jmed_llm.COMMIT in said and str(tmp_path) in said and "JMED_LLM_DIR" in said
    assert all(name in said and entry[0] in said for name, entry in fetch_jmed_llm.FILES.items())
