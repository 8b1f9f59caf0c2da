# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whole copies of remote files in a local folder, each made once on a machine."""

import hashlib
import os
import re
import select
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ibot_mm.datasets.store_error import StoreError

from .retries import Retries

try:
    import fcntl
except ImportError:  # on Windows processes do not wait for each other
    fcntl = None  # type: ignore[assignment]

PIPE = 'pipe:'
BLOCK = 2**20


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let the processes of this machine enter one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w') as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def copy_once(
    path: str, folder: str, retries: Retries, open_system: Callable[[str], tuple[Any, str]]
) -> str:
    """Copy a file, unless it was copied before.

    Args:
        path: Address, or ``pipe:COMMAND``, a shell command that writes the file.
        folder: Where copies are kept, each under a name of its own.
        retries: How often it is tried; ``timeout`` is how long nothing may come.
        open_system: Gives fsspec's file system of an address, and the name in it.

    Returns:
        The copy's path.

    Raises:
        StoreError: If the store does not give the whole file.
    """
    key = hashlib.blake2b(path.encode(), digest_size=8).hexdigest()
    name = re.sub(r'[^\w.-]', '_', path.rsplit('/', 1)[-1])[-80:]
    copy = Path(folder, f'{key}-{name}')
    if copy.exists():
        return str(copy)
    with one_at_a_time(copy.with_name(f'.{copy.name}.lock')):
        if not copy.exists():
            retries.call(f'copying {path}', lambda: _copy(path, copy, retries.timeout, open_system))
    return str(copy)


def _copy(path: str, copy: Path, timeout: float, open_system: Callable) -> None:
    part = copy.with_name(f'.{copy.name}.part')
    with open(part, 'wb') as out:
        if path.startswith(PIPE):
            _run(path.removeprefix(PIPE), out, timeout)
        else:
            _download(path, out, timeout, open_system)
    os.replace(part, copy)


def _download(path: str, out: BinaryIO, timeout: float, open_system: Callable) -> None:
    system, name = open_system(path)
    limit = dict(timeout=timeout) if getattr(system, 'async_impl', False) else {}
    size = system.info(name, **limit).get('size')
    if size is None:
        out.write(system.cat_file(name, **limit))
        return
    for start in range(0, size, 16 * BLOCK):
        end = min(start + 16 * BLOCK, size)
        block = system.cat_file(name, start=start, end=end, **limit)
        if start == 0 and len(block) == size:  # a server that sends whole files
            out.write(block)
            return
        if len(block) != end - start:
            raise EOFError(f'got {len(block)} of the {end - start} bytes from byte {start} on')
        out.write(block)


def _run(command: str, out: BinaryIO, timeout: float) -> None:
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        stdout = process.stdout
        while stdout is not None:
            if not select.select([stdout], [], [], timeout)[0]:
                process.kill()
                raise TimeoutError(f'the command wrote nothing for {timeout:g} s')
            block = os.read(stdout.fileno(), BLOCK)
            if not block:
                break
            out.write(block)
        if process.wait():
            errors.seek(0)
            text = errors.read().decode(errors='replace').strip()[-500:]
            raise OSError(f'the command ended with status {process.returncode}: {text}')
    if not out.tell():
        raise StoreError(f'the command {command!r} wrote nothing')
