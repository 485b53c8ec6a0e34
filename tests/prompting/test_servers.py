"""What servers say about one note: recorded for that note, in words of our own, and the others are asked."""

import gzip
import json
import time
from contextlib import suppress

import pytest
import servers
from test_ask import no_waiting, notes_of, server, settings_for, states, tag  # noqa: F401  (fixtures)

from nbutils.corpus import Document
from nbutils.files import DataError
from nbutils.prompting import tagger as icl
from nbutils.prompting.ask import open_answers
from nbutils.prompting.ledger import Outcome
from nbutils.prompting.reply import read_completion, refusal
from nbutils.taggers.usage import Tokens


def error(message, **more):
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more}


VLLM = {"object": "error", "type": "BadRequestError", "param": None, "code": 400,
        "message": "This model's maximum context length is 4096 tokens. However, you requested 6616 tokens (568 in the "
                   "messages, 6048 in the completion). Please reduce the length of the messages."}  # fmt: skip
LLAMA = error("the request exceeds the available context size, try increasing it", type="exceed_context_size_error",
              code=400, n_prompt_tokens=14429, n_ctx=8192)  # fmt: skip
PYDANTIC = {"detail": [{"type": "string_too_long", "loc": ["body", "messages", 0], "msg": "String is too long"}]}
# Refusals of one note as servers word them: status, body, and what is recorded.
ABOUT_ONE_NOTE = {
    "OpenAI, too long": (400, error("…", code="context_length_exceeded"), "too long"),
    "OpenAI, more than a minute's tokens": (429, error("Request too large for gpt-4o: Limit 30000"), "too long"),
    "vLLM": (400, VLLM, "too long"),
    "vLLM, nothing left for the answer": (400, error("max_tokens must be at least 1, got -512."), "too long"),
    "vLLM, newer": (400, error("'max_tokens' or 'max_completion_tokens' is too large: 6048."), "too long"),
    "llama.cpp": (400, LLAMA, "too long"),
    "llama.cpp, older": (500, error("the request exceeds the available context size", type="server_error"), "too long"),
    "DeepSeek": (400, error("This model's maximum context length is 131072 tokens.", code="invalid_request_error"),
                 "too long"),
    "Mistral": (400, {"object": "error", "message": "Prompt contains 40000 tokens, too large for model with 32768 "
                      "maximum context length", "type": "invalid_request_error", "code": 3051}, "too long"),
    "TGI": (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096",
                  "error_type": "validation"}, "refused"),
    "pydantic": (422, PYDANTIC, "too long"),
    "nginx": (413, b"<html><head><title>413 Request Entity Too Large</title></head></html>", "too long"),
    "Azure's filter": (400, error("The response was filtered", code="content_filter", status=400), "content_filter"),
    "Azure's filter, inside": (400, error("x", innererror={"code": "ResponsibleAIPolicyViolation"}), "content_filter"),
    "OpenRouter's moderation": (403, error("Your input was flagged", code=403), "content_filter"),
    "OpenRouter, with HTTP 200": (200, {"error": {"message": "maximum context length exceeded", "code": 400}},
                                  "too long"),
    "a gateway that says nothing": (400, b"", "refused"),
    "a code nobody knows": (418, {"nope": [1, {"x": None}]}, "refused"),
    "a list": (400, [], "refused"),
    "no JSON": (422, b"\xff\xfe{", "refused"),
}  # fmt: skip


def some_refused(server, names, status, body):  # noqa: F811
    right = server.answer
    server.asked = []

    def answer(handler, request):
        note = server_note(request)
        server.asked.append(note)
        if note in names:
            return handler.reply(body, status)
        right(handler, request)

    server.answer = answer


def server_note(request):
    return servers.note_of(request).split("。")[0]


@pytest.mark.parametrize(("status", "body", "state"), ABOUT_ONE_NOTE.values(), ids=ABOUT_ONE_NOTE.keys())
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_refusal_of_one_note_is_its_outcome_and_no_other_note_suffers(
    server, tmp_path, status, body, state, concurrency  # noqa: F811
):  # fmt: skip
    some_refused(server, ("症例0", "症例3"), status, body)
    settings = settings_for(server, tmp_path, concurrency=concurrency)
    expected = [f"answer: {state}", "stop", "stop", f"answer: {state}", "stop"]
    assert states(tag(settings, notes_of(5))) == expected
    asked = len(server.asked)
    assert states(tag(settings, notes_of(5))) == expected and len(server.asked) == asked  # nothing is asked twice


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_run_that_stopped_at_its_first_notes_goes_on_behind_them(server, tmp_path, status):  # noqa: F811
    some_refused(server, ("症例0", "症例1", "症例2"), status, b"")
    settings = settings_for(server, tmp_path, concurrency=1)
    notes = [Document(d.id, d.text + ("" if k < 3 else "経過。" * 40)) for k, d in enumerate(notes_of(6))]
    with pytest.raises(DataError, match=rf'answered HTTP {status} \(notes? "n0"'):
        tag(settings, notes)
    assert states(tag(settings, notes)) == ["answer: refused"] * 3 + ["stop"] * 3


def test_when_long_notes_are_refused_the_shortest_one_shows_that_the_endpoint_works(server, tmp_path):  # noqa: F811
    some_refused(server, [f"症例{k}" for k in range(9)], 400, b"")
    notes = [Document(d.id, d.text + "経過。" * 40 * (k < 9)) for k, d in enumerate(notes_of(12))]
    found = tag(settings_for(server, tmp_path, concurrency=1), notes)
    assert states(found) == ["answer: refused"] * 9 + ["stop"] * 3


def test_a_refusal_that_is_faster_than_the_answers_stops_nothing(server, tmp_path):  # noqa: F811
    server.delay = 0.3
    some_refused(server, ("症例0", "症例1", "症例2"), 400, b"")
    assert states(tag(settings_for(server, tmp_path), notes_of(8))) == ["answer: refused"] * 3 + ["stop"] * 5


def test_a_key_that_ends_in_the_middle_stops_the_run_and_no_note_is_blamed(server, tmp_path):  # noqa: F811
    some_refused(server, [f"症例{k}" for k in range(2, 9)], 401, b"")
    settings = settings_for(server, tmp_path, concurrency=1)
    with pytest.raises(DataError, match="HTTP 401"):
        tag(settings, notes_of(9))
    assert len(server.asked) == 3
    some_refused(server, (), 200, b"")
    server.answer = servers.FaultServer.answer.__get__(server)
    assert states(tag(settings, notes_of(9))) == ["stop"] * 9


def test_a_model_that_is_taken_away_in_the_middle_stops_the_run_after_three_notes(server, tmp_path):  # noqa: F811
    some_refused(server, [f"症例{k}" for k in range(2, 9)], 404, b"")
    settings = settings_for(server, tmp_path, concurrency=1)
    with pytest.raises(DataError, match="HTTP 404"):
        tag(settings, notes_of(9))
    assert len(server.asked) == 5
    server.answer = servers.FaultServer.answer.__get__(server)
    assert states(tag(settings, notes_of(9))) == ["stop"] * 9


def test_when_every_note_is_too_long_the_run_stops_with_the_fix(server, tmp_path):  # noqa: F811
    some_refused(server, [f"症例{k}" for k in range(30)], 400, VLLM)
    with pytest.raises(DataError, match=r"refused 1\d notes in a row .*too long.*lower tokens_per_character"):
        tag(settings_for(server, tmp_path), notes_of(30))
    other = settings_for(server, tmp_path, policy="strict", model="other")
    assert states(tag(other, notes_of(2))) == ["answer: too long"] * 2  # two alone say so of themselves


def test_a_private_note_is_not_named(server, tmp_path):  # noqa: F811
    some_refused(server, ("症例0",), 400, b"")
    with pytest.raises(DataError) as caught:
        tag(settings_for(server, tmp_path), [Document("山田太郎", notes_of(1)[0].text, private=True)])
    assert "山田" not in str(caught.value) and '"a private note"' in str(caught.value)


@pytest.mark.parametrize(
    ("body", "named", "fix"),
    [
        (error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
               "instead.", param="max_tokens", code="unsupported_parameter"), "max_tokens",
         "limit_name: max_completion_tokens"),
        (error("Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
               "supported.", param="temperature", code="unsupported_value"), "temperature", "temperature: null"),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
         "seed", "seed_name: null"),
        (error("Unrecognized request argument supplied: seed"), "seed", "seed_name: null"),
    ],
    ids=["o-series, limit", "o-series, temperature", "Mistral", "old OpenAI"],
)  # fmt: skip
def test_a_parameter_that_is_not_taken_is_named_with_the_setting_that_changes_it(
    server, tmp_path, body, named, fix  # noqa: F811
):  # fmt: skip
    some_refused(server, [f"症例{k}" for k in range(30)], 422 if "detail" in body else 400, body)
    with pytest.raises(DataError, match=f"it does not take {named}; write {fix}"):
        tag(settings_for(server, tmp_path), notes_of(30))


def test_parameters_can_be_renamed_and_left_out(server, tmp_path):  # noqa: F811
    tag(settings_for(server, tmp_path, seed_name="random_seed", limit_name="max_new_tokens"), notes_of(1))
    tag(settings_for(server, tmp_path, seed_name=None, limit_name=None, temperature=None), notes_of(1))
    assert {"random_seed", "max_new_tokens", "temperature"} < set(server.bodies[0])
    assert set(server.bodies[1]) == {"model", "messages"}


@pytest.mark.parametrize("more", [{"limit_name": "seed"}, {"seed_name": "model"}, {"limit_name": "temperature"},
                                  {"limit_name": None, "budget_tokens": 10}])  # fmt: skip
def test_names_that_would_replace_other_parameters_are_refused(tmp_path, more):
    with pytest.raises(ValueError, match=r"limit_name"):
        settings_for(1, tmp_path, **more)


# --- shapes of an answer ---------------------------------------------------------------------------------------------

TAGGED = "症例0。<d>発熱</d>と発熱を認めた。"
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "考える"}]}


@pytest.mark.parametrize(
    "content",
    [[{"type": "text", "text": TAGGED}], [THINKING, {"type": "text", "text": TAGGED}], [TAGGED[:5], TAGGED[5:]],
     [{"type": "text", "text": TAGGED[:9]}, {"type": "text", "text": TAGGED[9:]}], {"type": "text", "text": TAGGED},
     [{"type": "output_text", "text": {"value": TAGGED, "annotations": []}}]],
)  # fmt: skip
def test_an_answer_in_parts_is_the_text_of_its_parts(content):
    assert read_completion(json.dumps(servers.completion(content)).encode()).outcome == Outcome("stop", TAGGED)


ENDS = {"stop": ["stop", "eos", "eos_token", "end_turn", "EOS", "STOP", None, "stop_sequence", "COMPLETE"],
        "length": ["length", "max_tokens", "MAX_TOKENS", "model_length"],
        "content_filter": ["content_filter", "SAFETY"], "error": ["error", "abort"],
        "ended by tool_calls": ["tool_calls"], "ended by other": ["SECRET肺癌", 7, ["x"], {"a": 1}]}  # fmt: skip


@pytest.mark.parametrize(("state", "end"), [(state, end) for state, ends in ENDS.items() for end in ends])
def test_an_end_is_told_in_words_of_a_closed_list(state, end):
    outcome = read_completion(json.dumps(servers.completion(TAGGED, end)).encode()).outcome
    assert outcome == Outcome(state, TAGGED)


def test_words_of_a_server_in_an_older_file_of_answers_do_not_reach_a_record(tmp_path):
    read = [
        icl.read_outcome("発熱", Outcome(f"ended by {end}", "発熱"), settings_for(1, tmp_path))
        for end in ("eos", "患者")
    ]
    assert [r.repairs for r in read] == [{}, {"answer: ended by other": 1}]


@pytest.mark.parametrize("end", ["length", "stop"])
def test_answers_without_any_text_stop_the_run_with_the_fix(server, tmp_path, end):  # noqa: F811
    server.right_answer = lambda body: servers.completion("", end)
    settings = settings_for(server, tmp_path, concurrency=1)
    with pytest.raises(DataError, match=r"10 answers in a row without any text.*raise tokens_per_character"):
        tag(settings, notes_of(12))
    assert len(server.bodies) == 10
    with pytest.raises(DataError, match="without any text"):
        tag(settings, notes_of(12))  # and not silently the second time
    few = settings_for(server, tmp_path, model="other")
    assert states(tag(few, notes_of(2))) == [f"answer: {'length' if end == 'length' else 'empty'}"] * 2


def test_an_answer_that_ends_in_an_error_without_text_is_asked_for_again(server, tmp_path):  # noqa: F811
    replies = [servers.completion("", "error")]
    right = server.right_answer
    server.right_answer = lambda body: replies.pop() if replies else right(body)
    assert states(tag(settings_for(server, tmp_path), notes_of(1))) == ["stop"] and len(server.bodies) == 2


# --- what is counted -------------------------------------------------------------------------------------------------


def reply_with(usage):
    def right_answer(body):
        reply = servers.completion(servers.note_of(body).replace("発熱", "<d>発熱</d>")) | {"usage": usage}
        return reply if usage is not None else {k: v for k, v in reply.items() if k != "usage"}

    return right_answer


UNBELIEVABLE = [{"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": 100, "completion_tokens": 0},
                {"prompt_tokens": 1, "completion_tokens": 1}, {"prompt_tokens": 2 * 10**9, "completion_tokens": 5},
                {"prompt_tokens": float("nan"), "completion_tokens": 5}, {"prompt_tokens": -1, "completion_tokens": 5},
                {"prompt_tokens": True, "completion_tokens": 5}, {"prompt_tokens": "100", "completion_tokens": 5},
                [], {}, None]  # fmt: skip


@pytest.mark.parametrize("usage", UNBELIEVABLE, ids=str)
def test_a_budget_holds_also_when_a_server_counts_nothing_or_nonsense(server, tmp_path, usage):  # noqa: F811
    server.right_answer = reply_with(usage)
    settings = settings_for(server, tmp_path, budget_tokens=30_000)
    (request,) = icl.IclTagger(settings, (), 0).requests(icl.IclTagger(settings, (), 0).pieces(notes_of(1)))
    held = request.at_most.prompt + request.at_most.answer
    with pytest.raises(DataError, match="the budget for m does not suffice"):
        tag(settings, notes_of(30))
    assert len(server.bodies) == 30_000 // held


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_tokens_that_no_server_counted_are_at_most_and_never_used(server, tmp_path, usage, capsys):  # noqa: F811
    server.right_answer = reply_with(usage)
    tagger = icl.IclTagger(settings_for(server, tmp_path), (), 0)
    tagger.predict(notes_of(2), progress=True)
    assert tagger.used is None
    assert "tokens so far at most" in capsys.readouterr().err


def test_a_count_above_what_was_held_back_is_booked(server, tmp_path):  # noqa: F811
    server.right_answer = reply_with({"prompt_tokens": 9_000, "completion_tokens": 20})
    settings = settings_for(server, tmp_path)
    tag(settings, notes_of(1))
    assert open_answers(settings).spent() == Tokens(9_000, 20)


# --- hostile and broken servers --------------------------------------------------------------------------------------


def raw(server, send):  # noqa: F811
    """Let the server answer by `send(handler)`, which writes the whole reply."""

    def answer(handler, body):
        server.bodies.append(body)
        handler.close_connection = True
        with suppress(OSError):  # the client has heard enough
            send(handler)

    server.answer = answer


def test_a_compressed_answer_is_not_asked_for_and_not_unpacked(server, tmp_path):  # noqa: F811
    bomb = gzip.compress(b" " * 50_000_000)
    raw(server, lambda handler: handler.reply(bomb, 200, [("content-encoding", "gzip")]))
    settings = settings_for(server, tmp_path, attempts=1)
    assert states(tag(settings, notes_of(1))) == ["answer: failed"]
    query = "SELECT reason FROM answers"
    assert "compressed" in open_answers(settings).db.execute(query).fetchone()[0]
    server.answer = servers.FaultServer.answer.__get__(server)
    tag(settings, notes_of(1))
    assert server.headers[0]["accept-encoding"] == "identity"


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" " * 1_000_000)


def drip(handler):
    handler.send_response(200)
    handler.send_header("content-length", "100000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


HOSTILE = {
    "100 MB": endless,
    "drip": drip,
    "hang": lambda handler: time.sleep(2),
    "deep": lambda handler: handler.reply(b"[" * 200_000),
    "deep error": lambda handler: handler.reply(b'{"error": ' * 100_000, 500),
    "huge number": lambda handler: handler.reply(
        json.dumps(servers.completion("x")).replace("100", "1" * 5_000).encode()),
    "3000 headers": lambda handler: handler.reply({}, 200, [(f"x-{k}", "v") for k in range(3_000)]),
    "encoded error": lambda handler: handler.reply(b"\x1f\x8bxxxx", 500, [("content-encoding", "gzip")]),
    "wait for less than nothing": lambda handler: handler.reply({}, 503, [("retry-after", "-5")]),
    "no completion": lambda handler: handler.reply({"choices": [{"message": {"content": {"a": 1}}}]}),
    "lists": lambda handler: handler.reply({"choices": [[]]}),
}  # fmt: skip


@pytest.mark.parametrize("send", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_is_one_recorded_outcome_in_bounded_time(server, tmp_path, send):  # noqa: F811
    raw(server, send)
    begin = time.monotonic()
    (prediction,) = tag(settings_for(server, tmp_path, attempts=2, timeout=0.5), notes_of(1))
    assert not prediction.entities and set(prediction.repairs) <= {"answer: failed", "answer: empty"}
    assert time.monotonic() - begin < 10


def test_an_answer_with_a_lone_surrogate_or_a_nul_is_kept_and_so_are_its_neighbours(server, tmp_path):  # noqa: F811
    right = server.right_answer
    server.right_answer = lambda body: (
        servers.completion("症例1。<d>発熱</d>\ud800\0と") if "症例1。" in servers.note_of(body) else right(body)
    )
    settings = settings_for(server, tmp_path)
    found = tag(settings, notes_of(6))
    assert states(found) == ["stop"] * 6 and found[1].raw == "症例1。<d>発熱</d>\ufffd\0と" and found[1].entities
    assert tag(settings, notes_of(6)) == found and len(server.bodies) == 6


def test_one_answer_that_cannot_be_written_cancels_no_other_request(server, tmp_path, monkeypatch):  # noqa: F811
    from nbutils.prompting.ledger import Answers

    settle, n = Answers.settle, []

    def fail_once(self, key, outcome, used=None):
        n.append(key)
        if len(n) == 1:
            raise UnicodeError("a text of a note")
        settle(self, key, outcome, used)

    server.delay = 0.2
    monkeypatch.setattr(Answers, "settle", fail_once)
    settings = settings_for(server, tmp_path, concurrency=6)
    with pytest.raises(DataError, match=r"an error in this program \(UnicodeError\)"):
        tag(settings, notes_of(6))
    assert len(n) == 6  # the five others were written, though the first failed


@pytest.mark.parametrize("status", [400, 403, 422, 500])
def test_a_refusal_says_nothing_of_the_server_s_own_text(status):
    secret = "山田太郎は肺癌"
    attempt = refusal(status, error(secret, code=secret, type=secret, param=secret))
    assert secret not in repr(attempt)
