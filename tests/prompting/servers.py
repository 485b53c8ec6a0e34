"""Servers on loopback that speak OpenAI's chat completions: a good one around a tiny model, and one that misbehaves.

    python tests/prompting/servers.py model FOLDER        answers with a model of this folder
    python tests/prompting/servers.py faults FOLDER ...   answers rightly, or goes wrong; keeps a ledger in FOLDER

Both print their port on the first line.
"""

import argparse
import json
import random
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("429", "500", "time-out", "cut off", "garbage", "slow drip", "reset", "html")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(length := int(self.headers["content-length"]))
        if len(body) < length:  # the client is gone
            return None
        return self.server.answer(self, json.loads(body))

    def reply(self, body, status=200, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def completion(content, finish="stop", **message):
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def note_of(body):
    """The text that is asked about: what stands between the prompt's last two labels."""
    prompt = body["messages"][0]["content"]
    return prompt.rsplit("テキスト：", 1)[1].rsplit("\n\nアノテーション：", 1)[0]


class Ledger:
    """What was received and what was paid (a whole right answer was handed over), by idempotency key."""

    def __init__(self, folder):
        self.lock = threading.Lock()
        self.db = sqlite3.connect(Path(folder) / "ledger.sqlite", check_same_thread=False, isolation_level=None)
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.execute("CREATE TABLE IF NOT EXISTS events (key TEXT, event TEXT, answer TEXT)")

    def note(self, key, event, answer=""):
        with self.lock:
            self.db.execute("INSERT INTO events VALUES (?, ?, ?)", (key, event, answer))

    def count(self, key, event):
        with self.lock:
            return self.db.execute("SELECT count(*) FROM events WHERE key = ? AND event = ?", (key, event)).fetchone()[
                0
            ]


class FaultServer(ThreadingHTTPServer):
    """Marks 発熱 in every note, but first goes wrong with a probability, in every way there is.

    `honours_keys`: an idempotency key that was paid gets the same answer again, unpaid. `delay`: seconds of thought.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder, share=0.0, faults=FAULTS, delay=0.0, honours_keys=False, seed=0, patience=5.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ledger, self.share, self.faults, self.delay = Ledger(folder), share, faults, delay
        self.honours_keys, self.random, self.patience = honours_keys, random.Random(seed), patience
        self.bodies, self.headers = [], []

    def handle_error(self, *_):
        """A client that was killed or lost patience is no news."""

    def answer(self, handler, body):
        key = handler.headers.get("idempotency-key", "")
        self.bodies.append(body)
        self.headers.append(dict(handler.headers))
        self.ledger.note(key, "received")
        fault = self.random.choice(self.faults) if self.random.random() < self.share else None
        if fault:
            self.ledger.note(key, fault)
            return self.go_wrong(handler, fault)
        time.sleep(self.delay * self.random.random())
        if not (self.honours_keys and self.ledger.count(key, "paid")):
            self.ledger.note(key, "paid")
        handler.reply(self.right_answer(body))

    def right_answer(self, body):
        return completion(note_of(body).replace("発熱", "<d>発熱</d>"))

    def go_wrong(self, handler, fault):
        handler.close_connection = True
        if fault == "429":
            handler.reply({"error": {"message": "slow down"}}, 429, [("retry-after", "0.05")])
        elif fault == "500":
            handler.reply({"error": {"message": "oops"}}, self.random.choice([500, 502, 503, 529]))
        elif fault == "time-out":
            time.sleep(self.patience)
        elif fault == "cut off":
            handler.send_response(200)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"choices": [')
        elif fault == "garbage":
            handler.reply(bytes(self.random.randrange(256) for _ in range(50)))
        elif fault == "html":
            handler.reply(b"<html>gateway</html>")
        elif fault == "slow drip":
            handler.send_response(200)
            handler.send_header("content-length", "100000")
            handler.end_headers()
            end = time.time() + self.patience
            try:
                while time.time() < end:
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                pass
        elif fault == "reset":
            handler.connection.close()


class ModelServer(ThreadingHTTPServer):
    """A local model behind chat completions, one request after the other."""

    daemon_threads = True

    def __init__(self, folder):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self.model, self.tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        self.lock, self.torch = threading.Lock(), torch
        super().__init__(("127.0.0.1", 0), Handler)

    def answer(self, handler, body):
        tokenizer = self.tokenizer
        ids = [
            tokenizer.bos_token_id,
            *tokenizer(body["messages"][0]["content"], add_special_tokens=False)["input_ids"],
        ]
        with self.lock, self.torch.inference_mode():
            out = self.model.generate(
                self.torch.tensor([ids]), max_new_tokens=body["max_tokens"], do_sample=False, pad_token_id=0
            )[0, len(ids) :].tolist()
        finish = "stop" if tokenizer.eos_token_id in out else "length"
        out = out[: out.index(tokenizer.eos_token_id)] if finish == "stop" else out
        handler.reply(completion(tokenizer.decode(out), finish))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["model", "faults"])
    parser.add_argument("folder")
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--honours-keys", action="store_true")
    parser.add_argument("--quick", action="store_true", help="no faults that cost the client its patience")
    chosen = parser.parse_args()
    if chosen.kind == "model":
        server = ModelServer(chosen.folder)
    else:
        faults = [fault for fault in FAULTS if fault not in ("time-out", "slow drip")] if chosen.quick else FAULTS
        server = FaultServer(chosen.folder, chosen.share, faults, chosen.delay, chosen.honours_keys)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
