"""papermill's command line, started in one second instead of four: `python -m nbutils.study.papermill IN OUT …`.

The grid starts it for every run and every analysis, so the seconds count. What it writes names no folder of this
machine. Text goes in by `-r NAME VALUE`, which is never read as a number, a truth value or YAML. Where
JUPYTER_GATEWAY_URL is set, the kernel is one of that gateway or Jupyter server.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

# jsonschema's check of international web addresses builds a grammar for 3 s on import and is optional; a notebook's
# schema asks for no such check.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

import nbformat  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402
from papermill.cli import papermill  # noqa: E402

from nbutils.files import write_whole, written_whole  # noqa: E402
from nbutils.study.provenance import without_paths  # noqa: E402

# What goes between this process and its kernel is encrypted, as other users of the machine could listen.
KernelManager.transport_encryption.default_value = "auto"


def main() -> None:
    """Execute a notebook as papermill does, take the folders of this machine out of it, and note its hash beside it."""
    if os.environ.get("JUPYTER_GATEWAY_URL"):
        _use_gateway()
    try:
        papermill(prog_name="papermill")
    finally:
        written = Path(sys.argv[2]) if len(sys.argv) > 2 else None
        if written is not None and written.is_file():
            notebook = without_paths(nbformat.read(written, as_version=4))
            with written_whole(written) as file:
                nbformat.write(notebook, file)
            write_whole(_mark(written), _hash(written))


def _use_gateway() -> None:
    """Let papermill start its kernels at the gateway or Jupyter server that the environment names."""
    import websocket
    from jupyter_server.gateway.managers import GatewayClient, GatewayKernelManager
    from papermill.engines import NBClientEngine, papermill_engines

    client = GatewayClient.instance()
    if client.auth_token:  # which jupyter_server sends with requests and forgets on opening the kernel's channels
        header = [f"{client.auth_header_key}: {client.auth_scheme} {client.auth_token}"]
        websocket.create_connection = partial(websocket.create_connection, header=header)

    class Remote(GatewayKernelManager):
        async def start_kernel(self, **options: Any) -> None:
            await super().start_kernel(**options | {"kernel_name": self.kernel_name})  # nbclient does not pass it on

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, *arguments: Any, **options: Any) -> Any:
            return super().execute_managed_notebook(*arguments, **options, kernel_manager_class=Remote)

    papermill_engines.register(None, Engine)


def as_executed(path: Path) -> bool:
    """Whether a notebook is as `main` left it, and nobody has opened, run and saved it since."""
    mark = _mark(path)
    return mark.exists() and mark.read_text(encoding="utf-8") == _hash(path)


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
