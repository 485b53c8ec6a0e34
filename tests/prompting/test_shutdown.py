"""`study check` tells when an endpoint's list of models names the day on which the model goes."""

import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import pytest
from servers import Handler

from nbutils.prompting.endpoint import shutdown_date
from nbutils.study.__main__ import main
from nbutils.taggers.settings import IclSettings


class Models(Handler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("content-length")))
        self.reply(self.server.body, self.server.status)


@contextmanager
def listing(body, status=200):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    server.body, server.status, server.asked = body, status, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def models(date):
    row = {"id": "m-1", "object": "model", "created": 0, "owned_by": "x"} | date
    return {"object": "list", "data": [{"id": "other", "shutdown_date": "1999-01-01"}, row]}


@pytest.mark.parametrize(
    ("body", "status", "date"),
    [
        (models({"shutdown_date": "2027-01-14"}), 200, "2027-01-14"),
        (models({"shutdown_date": None}), 200, None),
        (models({}), 200, None),
        (models({"shutdown_date": "<b>soon</b>"}), 200, None),
        ({"data": "none"}, 200, None),
        (b"<html>", 200, None),
        (models({"shutdown_date": "2027-01-14"}), 404, None),
    ],
)
def test_a_day_is_told_only_when_the_list_names_one(body, status, date):
    with listing(body, status) as (server, endpoint):
        assert shutdown_date(IclSettings(model="m-1", endpoint=endpoint)) == date
        assert server.asked == [("/v1/models", None)]  # once, and without a body


def test_nobody_is_asked_in_a_dry_run_and_an_endpoint_that_is_away_stops_nothing():
    with listing(models({"shutdown_date": "2027-01-14"})) as (server, endpoint):
        assert shutdown_date(IclSettings(model="m-1", endpoint=endpoint, dry_run=True)) is None
        assert server.asked == []
    assert shutdown_date(IclSettings(model="m-1", endpoint=endpoint)) is None
    assert shutdown_date(IclSettings(model="m-1", endpoint="https://api.example.org/v1")) is None  # not allowed


def test_the_check_of_a_study_says_so(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    with listing(models({"shutdown_date": "2027-01-14"})) as (_, endpoint):
        path.write_text(
            f"corpora: {{A: {{path: data/cr}}}}\nsystems: {{icl: {{model: m-1, endpoint: '{endpoint}'}}}}\n",
            encoding="utf-8",
        )
        assert main(["check", str(path)]) == 0
    assert "note: 127.0.0.1 shuts m-1 down on 2027-01-14; after that day nobody can repeat" in capsys.readouterr().err
