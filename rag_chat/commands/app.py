"""The group of all commands: its options, and the one place where errors become messages."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from typing import Any

import click

from rag_chat import __version__
from rag_chat.commands import offline as network
from rag_chat.commands.printing import complain
from rag_chat.errors import RagChatError, UsageError

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as a shell says it

_ANYWHERE = ("--offline", "--verbose")
_CHATTY = ("sentence_transformers", "transformers", "huggingface_hub", "torch", "httpx")

logger = logging.getLogger(__name__)


class Cli(click.Group):
    """A group that ends every command with a message and an exit status, never with a traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the options of the group from any place before a `--`."""
        end = args.index("--") if "--" in args else len(args)
        moved = [arg for arg in args[:end] if arg in _ANYWHERE]
        rest = [arg for arg in args[:end] if arg not in _ANYWHERE]
        return super().parse_args(ctx, [*moved, *rest, *args[end:]])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except RagChatError as error:
            logger.debug("Where it happened:", exc_info=True)
            complain(error)
            ctx.exit(WRONG_USAGE if isinstance(error, UsageError) else FAILED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:  # whoever read our output has seen enough
            _discard_output()
            ctx.exit(0)
        except OSError as error:
            logger.debug("Where it happened:", exc_info=True)
            complain(RagChatError(f"{error}.", "Check the path, its permissions, and the room on the disk."))
            ctx.exit(FAILED)
        return result


@click.group(
    cls=Cli,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "RAG_CHAT"},
    epilog="Every option has an environment variable, which the help of its command names.",
)
@click.option("--offline", is_flag=True, show_envvar=True, help="Refuse every connection to another machine.")
@click.option("-v", "--verbose", count=True, help="Log to standard error; twice for more.")
@click.version_option(__version__, prog_name="rag-chat")
def cli(offline: bool, verbose: int) -> None:
    """Turn your own conversations and documents into an assistant you own."""
    if offline:
        network.enforce()
    _set_up_logging(verbose)


def main() -> None:
    """Run the command line."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    cli(prog_name="rag-chat")


def _set_up_logging(verbose: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(stream=sys.stderr, level=level, format="%(levelname)s %(name)s: %(message)s")
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it resets its own logger when imported
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
            warnings.filterwarnings("ignore", module=rf"{name}\b")


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter can end quietly."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:  # standard output is no file, as in a test
        return
