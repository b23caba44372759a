"""Run a notebook in a kernel of one's own choice, and go on talking to that kernel."""

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

LAUNCH = "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"


def run(
    path: Path,
    *,
    python: Path,
    first: str = "pass",
    folder: Path,
    environment: dict[str, str],
    afterwards: Callable[[NotebookClient], Awaitable[None]] | None = None,
) -> NotebookClient:
    """Execute a notebook; its file is left as it is.

    Parameters
    ----------
    path : Path
        The notebook.
    python : Path
        The interpreter of the kernel.
    first : str
        What the kernel does before the notebook begins, as Python.
    folder : Path
        Where the kernel starts.
    environment : dict
        The kernel's environment variables, all of them.
    afterwards : async function, optional
        What to do with the client while the kernel is still alive.

    Returns
    -------
    NotebookClient
        With the outputs in ``nb`` and the widgets in ``widget_state``.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        With the traceback of the cell that failed.
    """
    with tempfile.TemporaryDirectory() as kernels:
        argv = [str(python), "-c", f"{first}; {LAUNCH}", "-f", "{connection_file}"]
        specification = {"argv": argv, "display_name": "test", "language": "python"}
        (Path(kernels) / "test").mkdir()
        (Path(kernels) / "test" / "kernel.json").write_text(json.dumps(specification))
        found = KernelSpecManager(kernel_dirs=[kernels], ensure_native_kernel=False)
        client = NotebookClient(
            nbformat.read(path, as_version=4),
            km=AsyncKernelManager(kernel_name="test", kernel_spec_manager=found),
            resources={"metadata": {"path": str(folder)}},
            timeout=300,
        )

        async def execute() -> None:
            async with client.async_setup_kernel(env=environment, cleanup_kc=True):
                for index, cell in enumerate(client.nb.cells):
                    await client.async_execute_cell(cell, index)
                if afterwards is not None:
                    await afterwards(client)

        asyncio.run(execute())
    return client


async def update_widget(client: NotebookClient, widget: str, **state: Any) -> dict[str, dict]:
    """Tell the kernel what a reader did to a widget; return what it changes in others.

    Parameters
    ----------
    client : NotebookClient
        With a kernel that is alive and at rest.
    widget : str
        A key of ``client.widget_state``.
    **state
        The new values, for instance ``index=2``.

    Returns
    -------
    dict
        Widget -> its changed values.
    """
    data = {"method": "update", "state": state, "buffer_paths": []}
    message = client.kc.session.msg("comm_msg", {"comm_id": widget, "data": data})
    client.kc.shell_channel.send(message)
    changes: dict[str, dict] = {}
    while True:
        reply = await client.kc.iopub_channel.get_msg(timeout=60)
        if reply["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        content = reply["content"]
        if reply["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
            changes.setdefault(content["comm_id"], {}).update(content["data"]["state"])
        if reply["msg_type"] == "status" and content["execution_state"] == "idle":
            changes.pop(widget, None)
            return changes


def environment_without(*beginnings: str) -> dict[str, str]:
    """Return this process's environment variables but for those that begin so."""
    return {name: value for name, value in os.environ.items() if not name.startswith(beginnings)}
