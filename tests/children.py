"""Processes to kill and to crash: forked from a warm server, so that one costs milliseconds."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest import mock

TESTS = Path(__file__).parent
ONE_THREAD = {"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "OMP_NUM_THREADS": "1"}


class Crashed(Exception):
    """A child ended without an answer: its exit code, negative for a signal."""


@functools.cache
def server() -> ForkServerContext:
    """Start the server; it has imported everything and opened nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["writer_process", "faiss"])
    with mock.patch.dict(os.environ, ONE_THREAD):
        forkserver.ensure_running()
    return context


@contextmanager
def child(run: Callable[..., object], *args: object) -> Iterator[tuple[Any, Connection]]:
    """Yield a process that runs `run(*args, connection)`, and the other end of that connection.

    It is killed at the end.
    """
    here, there = server().Pipe()
    process = server().Process(target=run, args=(*args, there))
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join()
        here.close()


def call(function: Callable[..., Any], *args: object) -> Any:
    """Return what the function returns, or raise what it raises, in a fresh process."""
    with child(_answer, function, args) as (process, connection):
        try:
            failed, result = connection.recv()
        except EOFError:
            process.join()
            raise Crashed(process.exitcode) from None
    if failed:
        raise result
    return result


def _answer(function: Callable[..., Any], args: tuple[object, ...], connection: Connection) -> None:
    try:
        connection.send((False, function(*args)))
    except Exception as error:
        connection.send((True, error))
