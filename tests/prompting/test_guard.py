"""Where text may go: decided by the study file, before anything is sent, and seen on the sockets themselves."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import httpx2
import pytest
import servers
from test_ask import notes_of, serve, settings_for, tag

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity
from nbutils.files import DataError
from nbutils.prompting import guard
from nbutils.prompting import tagger as icl
from nbutils.prompting.endpoint import Endpoint
from nbutils.prompting.prompts import shortened
from nbutils.study.__main__ import main
from nbutils.study.file import load_study
from nbutils.taggers.settings import IclSettings

EXTERNAL = "https://api.example.org/v1"


def rules(**more):
    return IclSettings(model="m", **more)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:80/v1", "http://LOCALHOST:1/v1"]
)
def test_this_machine_may_get_any_text(endpoint):
    guard.allow(endpoint, rules(), ["ward7"])


@pytest.mark.parametrize(
    "endpoint",
    [EXTERNAL, "https://127.0.0.1.example.org", "https://localhost.example.org/v1", "http://0.0.0.0/v1",
     "http://192.168.1.5/v1", "https://api.example.org:443/127.0.0.1"],
)  # fmt: skip
def test_external_endpoints_are_off(endpoint):
    with pytest.raises(DataError, match="external endpoints are off"):
        guard.allow(endpoint, rules())


@pytest.mark.parametrize(
    "endpoint",
    ["", "api.openai.com/v1", "ftp://127.0.0.1/", "https://127.0.0.1@evil.org/v1", "https://key:x@127.0.0.1/v1",
     "https://127.0.0.1/v1?key=1", "file:///etc/passwd", "http://"],
)  # fmt: skip
def test_an_address_that_is_not_plain_is_refused(endpoint):
    with pytest.raises(DataError, match=r"^endpoint: "):
        guard.allow(endpoint, rules(external=True))


def test_external_text_goes_only_where_the_study_file_says_so_and_not_in_the_open():
    assert guard.allow(EXTERNAL, rules(external=True)) == "api.example.org"
    with pytest.raises(DataError, match="in the open"):
        guard.allow("http://api.example.org/v1", rules(external=True))


def test_a_private_corpus_goes_only_to_declared_hosts():
    with pytest.raises(DataError) as caught:
        guard.allow(EXTERNAL, rules(external=True), ["ward7"])
    assert str(caught.value) == (
        'corpus "ward7" is marked private, so its text will not be sent to api.example.org. '
        "Use a local endpoint, or declare the host under allowed_hosts."
    )
    guard.allow("http://llm.ward.example:8000/v1", rules(allowed_hosts=("llm.ward.example",)), ["ward7"])
    with pytest.raises(DataError, match="ward7"):
        rest = rules(allowed_hosts=("llm.ward.example",), external=True)
        guard.allow("https://x.llm.ward.example/v1", rest, ["ward7"])


def test_private_example_notes_make_a_public_note_private():
    shots = Corpus("ward7", (Document("s", "咳嗽", (Entity(0, 2),)),), private=True)
    settings = rules(endpoint=EXTERNAL, external=True, shots=1)
    tagger = icl.fit(shots, settings, seed=0)
    with pytest.raises(DataError, match='corpus "ward7" is marked private'):
        tagger.predict(Corpus("CR", tuple(notes_of(1))))


@pytest.fixture
def nothing_is_sent(monkeypatch):
    async def send(*_):
        raise AssertionError("text was handed to the sending function")

    monkeypatch.setattr(Endpoint, "send", send)
    monkeypatch.setenv("WARD_KEY", "x")
    return rules(endpoint=EXTERNAL, external=True, key_variable="WARD_KEY", shots=0)


WARD = Corpus("ward7", (Document("s", "咳嗽あり", (Entity(0, 2),)),), private=True)


@pytest.mark.parametrize(
    "given", [list, tuple, iter, lambda notes: (d for d in notes), lambda notes: [*notes_of(2), *notes]]
)
def test_a_note_that_is_marked_private_is_not_sent_from_a_notebook_either(nothing_is_sent, given):
    """Without its corpus: as a list, a generator, or among public notes."""
    tagger = icl.fit([], nothing_is_sent, seed=0)
    with pytest.raises(DataError, match=r"^a note is marked private, so its text will not be sent to api.example.org"):
        tagger.predict(given(WARD.documents))
    with pytest.raises(DataError, match="marked private"):
        icl.IclTagger(nothing_is_sent, (), 0).predict(given(WARD.documents))


@pytest.mark.parametrize("make", [
    lambda settings: icl.fit(WARD, settings, seed=0),
    lambda settings: icl.fit(list(WARD), settings, seed=0),
    lambda settings: icl.fit(iter(WARD), settings, seed=0),
    lambda settings: icl.IclTagger(settings, WARD.documents, 0),
    lambda settings: icl.IclTagger(settings, [shortened(WARD.documents[0], 3)], 0),
])  # fmt: skip
def test_a_private_note_is_not_shown_to_an_external_model_however_it_was_chosen(nothing_is_sent, make):
    tagger = make(replace(nothing_is_sent, shots=1))
    with pytest.raises(DataError, match="marked private"):
        tagger.predict(notes_of(1))


def test_the_study_s_own_mark_holds_for_documents_that_lost_theirs(nothing_is_sent):
    bare = [replace(d, private=False) for d in WARD]
    with pytest.raises(DataError, match='corpus "ward7" is marked private'):
        icl.fit([], replace(nothing_is_sent, private_corpora=("ward7",)), seed=0).predict(bare)


def test_raw_answers_about_private_notes_are_kept_by_nobody(tmp_path):
    server = serve(servers.FaultServer(tmp_path))
    mixed = [*notes_of(2), *(replace(d, private=True) for d in notes_of(4)[2:])]
    found = tag(settings_for(server, tmp_path), mixed)
    assert [p.raw is None for p in found] == [False, False, True, True]
    shown = icl.IclTagger(settings_for(server, tmp_path), WARD.documents, 0).predict(notes_of(1))
    assert shown[0].raw is None  # an answer may repeat the note that was shown


ELSEWHERE = [
    "http://localhost.evil.example/v1", "http://127.0.0.1.nip.io/v1", "http://127.1/v1", "http://0x7f000001/v1",
    "http://2130706433/v1", "http://0177.0.0.1/v1", "http://[::ffff:10.0.0.1]/v1", "http://localhost./v1",
    "http://１２７.０.０.１.example/v1", "http://127.0.0.1%2eevil.example/v1", "http://127.0.0.1\\@evil.example/v1",
    "http://evil.example\\127.0.0.1/v1", "http://evil.example#127.0.0.1", "http://evil.example?127.0.0.1",
    "http://LOCALHOST.evil.example/v1", "https://0.0.0.0:80/v1", "http://[::]/v1", "http://169.254.169.254/v1",
    "http://localhost@evil.example/v1", "http://loopback/v1", "http://localdomain/v1", "http://[fe80::1]/v1",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ELSEWHERE)
def test_no_spelling_of_an_address_passes_another_host_off_as_this_machine(endpoint):
    try:
        host = guard.allow(endpoint, rules(external=True), ["ward7"])
    except DataError:
        return
    assert guard.is_loopback(httpx2.URL(endpoint).host) and host == httpx2.URL(endpoint).host.lower()


def test_the_sending_function_checks_for_itself(monkeypatch):
    monkeypatch.setenv("WARD_KEY", "x")

    async def send():
        endpoint = Endpoint(rules(endpoint=EXTERNAL, external=True, key_variable="WARD_KEY"))
        await endpoint.send({}, "key", ("ward7",))

    with pytest.raises(DataError, match='corpus "ward7" is marked private'):
        anyio.run(send)


STUDY = """
corpora:
  CR: {path: data/cr}
  WARD: {path: data/pn, private: true}
train: [%s]
evaluate: [%s]
systems:
  gpt: {kind: icl, model: m, endpoint: "https://api.example.org/v1", external: true, shots: %d}
"""


@pytest.mark.parametrize(
    ("train", "evaluate", "shots", "allowed"),
    [("CR", "CR", 1, True), ("CR", "CR, WARD", 0, False), ("WARD", "CR", 0, True), ("WARD", "CR", 1, False)],
)
def test_a_study_is_refused_before_it_starts_if_any_run_would_send_private_text(
    tmp_path, capsys, train, evaluate, shots, allowed
):
    path = tmp_path / "s.yaml"
    path.write_text(STUDY % (train, evaluate, shots), encoding="utf-8")
    assert main(["check", str(path)]) == (0 if allowed else 1)
    assert allowed or 'corpus "WARD" is marked private' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("decoding: fre", "decoding:"), ("policy: lenient", "policy:"), ("budget: 3.0", "needs a price"),
     ("price: {input: 1.0}", "per million"), ("attempts: 0", "more than 0"),
     ("interrupted: never", "ask, count, resend"),
     ("endpoint: http://127.0.0.1/v1, decoding: copy", "in this process"), ("private_corpora: [x]", "unknown key")],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused_when_the_study_is_read(tmp_path, line, sentence):
    path = tmp_path / "s.yaml"
    path.write_text(f"corpora: {{A: {{path: data/cr}}}}\nsystems:\n  icl: {{model: m, {line}}}\n", encoding="utf-8")
    with pytest.raises(DataError, match=sentence):
        load_study(path)


class Elsewhere(BaseHTTPRequestHandler):
    """Answers every request with a redirect to another server."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(307)
        self.send_header("location", self.server.target)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_redirect_is_not_followed(tmp_path):
    other = serve(servers.FaultServer(tmp_path))
    first = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    first.target = f"http://127.0.0.1:{other.server_address[1]}/v1/chat/completions"
    threading.Thread(target=first.serve_forever, daemon=True).start()
    with pytest.raises(DataError, match="HTTP 307"):
        tag(settings_for(first.server_address[1], tmp_path), notes_of(1))
    assert not other.bodies


# Every connection and every name that is looked up, by a hook below all libraries (PEP 578).
WATCHED = """
import json, pathlib, sys
seen = []
sys.addaudithook(lambda event, args: seen.append([event, repr(args[1:] if event == "socket.connect" else args[:2])])
                 if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto") else None)
sys.path[:0] = ["tests", "tests/prompting"]
from test_ask import notes_of, settings_for, tag
from dataclasses import replace
from nbutils.corpus import Corpus
from nbutils.corpus.formats import DataError
settings = settings_for(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
ward = Corpus("ward7", tuple(notes_of(3)), private=True)
seen.clear()
tag(settings, ward)
good = list(seen)
seen.clear()
refused = 0
for endpoint in ("https://api.example.org/v1", "http://10.0.0.1/v1", "https://api.openai.com/v1"):
    try:
        tag(replace(settings, endpoint=endpoint, external=True), ward)
    except DataError:
        refused += 1
print(json.dumps([good, seen, refused]))
"""


def test_on_the_sockets_private_text_reaches_only_the_allowed_host(tmp_path):
    """Also with a proxy in the environment, which would see everything."""
    server = serve(servers.FaultServer(tmp_path))
    port = server.server_address[1]
    proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"), "http://10.255.255.1:3128")
    environment = os.environ | proxy | {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "x", "OPENAI_BASE_URL": EXTERNAL}
    command = [sys.executable, "-c", WATCHED, str(port), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True)
    good, refused_connections, n_refused = json.loads(done.stdout)
    assert good and all("127.0.0.1" in where and str(port) in where for _, where in good)
    assert n_refused == 3 and refused_connections == []
    assert len(server.bodies) == 3
