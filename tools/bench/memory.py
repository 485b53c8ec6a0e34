"""Where a benchmark runs, the most memory in use meanwhile, how fast memory is read, and the clock."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import torch


def this_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Memory:
    """The most memory in use while this is open, beyond what was in use before: on the GPU, or of the process."""

    def __init__(self, device: torch.device):
        self.on_gpu = device.type == "cuda"

    def __enter__(self) -> Memory:
        gc.collect()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return self
        import psutil

        self.process, self.open = psutil.Process(), True
        self.before = self.most = self.process.memory_info().rss
        self.watch = threading.Thread(target=self._look, daemon=True)
        self.watch.start()
        return self

    def _look(self) -> None:
        while self.open:
            self.most = max(self.most, self.process.memory_info().rss)
            time.sleep(0.01)

    def __exit__(self, *_: Any) -> None:
        if self.on_gpu:
            self.most = torch.cuda.max_memory_allocated()
        else:
            self.open = False
            self.watch.join()
        self.extra = self.most - self.before


def bandwidth(device: torch.device, times: int = 5) -> float:
    """Bytes a second that a copy reads and writes on a device: the best of some copies of a large block."""
    block = torch.ones(2**29 if device.type == "cuda" else 2**25, device=device)  # 2 GB, or 128 MB
    copy, best = torch.empty_like(block), float("inf")
    for _ in range(times):
        seconds = -clock(device)
        copy.copy_(block)
        seconds += clock(device)
        best = min(best, seconds)
    return 2 * block.numel() * block.element_size() / best


def clock(device: torch.device) -> float:
    """Seconds, when all that the device was asked to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
