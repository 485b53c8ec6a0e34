"""Energy where the machine tells it: processor packages by RAPL (Linux), GPUs of this process by NVML.

The counters are those of a whole package and a whole GPU: work of other jobs at the same time is in them.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
Counters = dict[str, tuple[float, float]]  # by name: joules so far, and after how many the count begins again


def counters() -> Counters:
    """All counters that can be read; empty on a machine that tells none (or, as most Linux systems, only its root)."""
    return _packages() | _gpus()


def joules(before: Counters, after: Counters) -> float | None:
    """The energy between two readings; None when no counter is in both."""
    both = before.keys() & after.keys()
    if not both:
        return None
    used = ((before[name][0], *after[name]) for name in both)
    return round(sum(end - begin if end >= begin else full - begin + end for begin, end, full in used), 1)


def _packages() -> Counters:
    found: Counters = {}
    for folder in sorted(POWERCAP.glob("intel-rapl:*")):
        if folder.name.count(":") == 1:  # a package; what is below it is counted in it
            with suppress(OSError, ValueError):
                used, full = (int((folder / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
                found[folder.name] = (used / 1e6, full / 1e6)
    return found


def _gpus() -> Counters:
    """The GPUs that torch sees, when this process has loaded it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    found: Counters = {}
    with suppress(OSError, AttributeError):  # no NVML
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() == 0:
            for k in range(torch.cuda.device_count()):
                name = f"GPU-{torch.cuda.get_device_properties(k).uuid}"
                gpu, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
                known = nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(gpu)) == 0
                if known and nvml.nvmlDeviceGetTotalEnergyConsumption(gpu, ctypes.byref(millijoules)) == 0:
                    found[name] = (millijoules.value / 1e3, 2**64 / 1e3)
    return found
