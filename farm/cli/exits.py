"""Exit codes, and errors as sentences."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from farm.cli.output import say
from farm.core.errors import FarmError
from farm.sdk import ApiError, Unreachable

OK, FAILED, USAGE, SOME_FAILED, AUTH, TIMEOUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


class Stop(Exception):
    """The command ends here, with a sentence for people and a code for programs."""

    def __init__(self, detail: str, code: int = FAILED) -> None:
        super().__init__(detail)
        self.code = code


class FarmGroup(TyperGroup):
    """The root of all commands: what they raise ends here, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        with sentences():
            return super().invoke(ctx)


@contextmanager
def spec_sent() -> Iterator[None]:
    """What the farm finds wrong in a spec ends as what is found here, with `USAGE`."""
    try:
        yield
    except ApiError as refused:
        if refused.problem.status == 422:
            raise Stop(_api_sentence(refused), USAGE) from refused
        raise


@contextmanager
def sentences() -> Iterator[None]:
    try:
        yield
    except Stop as stop:
        _leave(str(stop), stop.code)
    except ApiError as error:
        _leave(_api_sentence(error), AUTH if error.problem.status == 401 else FAILED)
    except FarmError as error:
        _leave(error.detail, FAILED)
    except TimeoutError as late:
        _leave(str(late), TIMEOUT)
    except KeyboardInterrupt:
        _leave("Interrupted. What was submitted goes on: `farm campaign list` shows it.", INTERRUPTED)
    except BrokenPipeError:  # `farm ... | head`: nobody reads on
        sys.stderr.close()
        raise typer.Exit(OK) from None
    except OSError as error:
        _leave(f"{error.filename or 'The system'}: {error.strerror or error}.", FAILED)


def _leave(detail: str, code: int) -> None:
    say(detail)
    raise typer.Exit(code)


def _api_sentence(error: ApiError) -> str:
    problem = error.problem
    lines = [problem.detail]
    if len(problem.errors) > 1 or (problem.errors and problem.errors[0].detail not in problem.detail):
        lines = [problem.detail.split(": ")[0] + ":" if len(problem.errors) > 1 else problem.detail]
        lines += [f"  {fault.pointer or '/'}  {fault.detail} [{fault.code}]" for fault in problem.errors]
    if isinstance(error, Unreachable):
        lines.append("`farm status` shows what runs, `farm doctor` what is wrong.")
    if problem.status == 401:
        lines.append("Give a key with --key or FARM_API_KEY; `farm up` makes one.")
    if problem.status == 500 and problem.request_id:
        lines.append(f"Request id: {problem.request_id}")
    return "\n".join(lines)
