"""The long check, by hand: 2,000 notes, a server with faults in its own process, five kills with -9.

    PYTHONPATH=.:tests .venv/bin/python tests/prompting/check_faults.py [--notes 2000] [--kills 5]

Once with `interrupted: count` and a server that knows nothing of idempotency keys, once with `interrupted: resend` and
one that honours them. Every note must have one recorded outcome, and none may be paid twice.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from test_ask import check_ledgers, run_with_kills


def check(policy: str, n: int, kills: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--share", "0.1", "--delay", "0.02", *(["--honours-keys"] if policy == "resend" else [])]
        command = [sys.executable, str(Path(__file__).with_name("servers.py")), "faults", folder, *options]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            begin = time.time()
            port = int(server.stdout.readline())
            hits = run_with_kills(port, Path(folder), n, policy, kills, 3600)
            lost = check_ledgers(Path(folder), n, policy)
        finally:
            server.kill()
    took = f"{time.time() - begin:.0f} s"
    return f"{policy}: {n} notes, {hits} kills, {n} outcomes, {lost} of them interrupted, none paid twice; {took}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--notes", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", choices=["count", "resend"])
    chosen = parser.parse_args()
    for policy in [chosen.only] if chosen.only else ["count", "resend"]:
        print(check(policy, chosen.notes, chosen.kills), flush=True)
