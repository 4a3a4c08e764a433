"""Decoders under test as external commands: one process a vector, or one for the whole suite.

The protocol is described for implementers in ``conformance/README.md``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tgv_format.errors import IDENTIFIERS

#: Exit codes of a decoder (and ``status`` of a response in persistent mode).
DECODED, REJECTED, UNSUPPORTED = 0, 1, 69

#: What a decoder may be asked to write, by the name of the placeholder in its command.
OUTPUTS = ("params", "frames", "md5", "latents", "trace")

_POLL_SECONDS = 0.005
_MESSAGE_BYTES = 1 << 16
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_IDENTIFIER = re.compile(rf"^(?:[^:\s]+: )*({'|'.join(map(re.escape, IDENTIFIERS))})(?![\w-])", re.M)
#: A part of a command that is left out where a file named in it is not wanted.
_OPTIONAL = re.compile(r"\[([^\[\]]*\{\w+\}[^\[\]]*)\]")
_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Limits:
    """``seconds`` a vector may take, and ``memory`` in bytes that the processes may hold resident."""

    seconds: float = 20.0
    memory: int = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """How a decoder ended on one vector.

    ``code`` is its exit code (negative: the signal), None when it was stopped: ``stopped`` is then
    "timeout" or "memory". ``error`` is the error identifier that it reported, ``message`` what it said.
    """

    code: int | None
    seconds: float
    stopped: str = ""
    error: str | None = None
    message: str = ""


class CommandError(ValueError):
    """A decoder command that cannot work; the message is one line for the user."""


def placeholders(command: str) -> set[str]:
    """The placeholders in a command; CommandError for unknown ones."""
    names = set(re.findall(r"\{(\w+)\}", command))
    if unknown := names - {"input", *OUTPUTS}:
        raise CommandError(f"unknown placeholder {{{min(unknown)}}} in the decoder command")
    return names


def reported_error(message: str) -> str | None:
    """The error identifier in what a decoder said: at the beginning of a line, or after a program's name.

    The last such line counts. A Python traceback is no report, whatever it ends with.
    """
    found = _IDENTIFIER.findall(message)
    return found[-1] if found and _TRACEBACK not in message else None


class CommandDecoder:
    """A command that decodes one vector and exits.

    ``outputs`` are the files that it can write, ``required`` those that it always writes.
    """

    def __init__(self, command: str, limits: Limits) -> None:
        if "input" not in placeholders(command):
            raise CommandError("the decoder command needs {input}")
        self._command = command
        self._limits = limits
        self.outputs = placeholders(command) - {"input"}
        self.required = placeholders(_OPTIONAL.sub("", command)) - {"input"}

    def decode(self, stream: Path, outputs: dict[str, Path]) -> Outcome:
        """Decode ``stream``, writing the files in ``outputs``, all ``required`` ones among them."""
        paths = {"input": stream, **outputs}
        command = _OPTIONAL.sub(
            lambda part: part[1] if placeholders(part[1]) <= paths.keys() else "", self._command
        )
        words = [
            re.sub(r"\{(\w+)\}", lambda name: str(paths[name[1]]), word) for word in shlex.split(command)
        ]
        with tempfile.TemporaryFile() as log:
            process = _Process(words, subprocess.DEVNULL, log)
            start = time.monotonic()
            stopped = _watch(process, process.ended_within, self._limits)
            process.kill()
            message = _tail(log)
        # The peak also tells of memory that came and went between two looks.
        if not stopped and process.peak > self._limits.memory:
            stopped = "memory"
        code = None if stopped else process.code
        return Outcome(code, time.monotonic() - start, stopped, reported_error(message), message)

    def close(self) -> None:
        """Nothing is left running."""


class PersistentDecoder:
    """A command that answers requests until its standard input ends; started again when it fails.

    A request is a line of JSON with ``id``, ``input`` and the paths of the ``outputs``; the response one
    with the same ``id``, ``status`` (an exit code) and, when that is 1, ``error``, the identifier.
    """

    def __init__(self, command: str, limits: Limits, outputs: set[str]) -> None:
        if placeholders(command):
            raise CommandError("a persistent decoder gets its paths in requests: use --outputs")
        self._words = shlex.split(command)
        self._limits = limits
        self.outputs = outputs
        self.required: set[str] = set()
        self._process: _Process | None = None
        self._log: IO[bytes] | None = None
        self._buffer = b""
        self._requests = 0

    def decode(self, stream: Path, outputs: dict[str, Path]) -> Outcome:
        """Decode ``stream``, writing the files in ``outputs``."""
        if self._process is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115
            self._process = _Process(self._words, subprocess.PIPE, self._log)
            self._buffer = b""
        process = self._process
        self._requests += 1
        request = {"id": self._requests, "input": str(stream), **{k: str(v) for k, v in outputs.items()}}
        start = time.monotonic()
        stopped = ""
        try:
            process.send(json.dumps(request).encode() + b"\n")
            stopped = _watch(process, self._answered, self._limits)
        except BrokenPipeError:
            pass
        seconds = time.monotonic() - start
        if not stopped and b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            outcome = self._response(line, seconds)
            if outcome is not None:
                return outcome
        process.kill()
        assert self._log is not None
        message = _tail(self._log)
        self.close()
        if stopped:
            return Outcome(None, seconds, stopped, None, message)
        # Whatever it exited with, it did so without an answer.
        return Outcome(process.code or -signal.SIGPIPE, seconds, "", None, message or "no answer")

    def _answered(self, seconds: float) -> bool:
        """Whether a whole line has come, or none can come any more."""
        assert self._process is not None
        data = self._process.receive(seconds)
        self._buffer += data or b""
        return b"\n" in self._buffer or data is None

    def _response(self, line: bytes, seconds: float) -> Outcome | None:
        try:
            answer: Any = json.loads(line)
            if answer["id"] != self._requests:
                return None
            error, message = answer.get("error"), str(answer.get("message", ""))
            return Outcome(int(answer["status"]), seconds, "", error, message or str(error or ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def close(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None


Decoder = CommandDecoder | PersistentDecoder


class _Process:
    """A child in a process group of its own; ``peak`` bytes were resident at most, 0 if that is not known.

    Since several run side by side, libraries that read OMP_NUM_THREADS get one thread where it is not set.
    """

    def __init__(self, words: list[str], stdin: int, log: IO[bytes]) -> None:
        try:
            self._child = subprocess.Popen(
                words,
                stdin=stdin,
                stdout=stdin,
                stderr=log,
                start_new_session=True,
                bufsize=0,
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )
        except OSError as error:
            raise CommandError(f"{words[0]}: {error.strerror}") from None
        self.peak = 0
        # A child's account begins with the peak of the process that it was forked from.
        self._inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if self._child.stdout is not None:
            os.set_blocking(self._child.stdout.fileno(), False)

    @property
    def code(self) -> int | None:
        return self._child.returncode

    def ended_within(self, seconds: float) -> bool:
        """Whether the child has ended; if it has not, this takes ``seconds``."""
        if not self._ended():
            time.sleep(seconds)
        return self._ended()

    def _ended(self) -> bool:
        if self._child.returncode is None:
            pid, status, usage = os.wait4(self._child.pid, os.WNOHANG)
            if pid:
                self._child.returncode = os.waitstatus_to_exitcode(status)
                if usage.ru_maxrss > self._inherited:
                    self.peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return self._child.returncode is not None

    def resident(self) -> int:
        """Resident bytes of the child and its descendants; 0 where /proc does not tell."""
        total, pids = 0, [str(self._child.pid)]
        while pids:
            pid = pids.pop()
            try:
                total += int(Path("/proc", pid, "statm").read_text().split()[1]) * _PAGE_BYTES
                pids += Path("/proc", pid, "task", pid, "children").read_text().split()
            except (OSError, IndexError):
                continue
        return total

    def send(self, data: bytes) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(data)

    def receive(self, seconds: float) -> bytes | None:
        """What comes on standard output within ``seconds``; None at its end."""
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], seconds)
        return (self._child.stdout.read(1 << 16) or None) if ready else b""

    def kill(self) -> None:
        """End the whole group, its leader and whatever that left running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        while not self.ended_within(_POLL_SECONDS):
            pass
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()


def _watch(process: _Process, done: Callable[[float], bool], limits: Limits) -> str:
    """Wait for ``done``, which waits a moment; returns the limit that was reached first, or ""."""
    deadline = time.monotonic() + limits.seconds
    while not done(_POLL_SECONDS):
        if process.resident() > limits.memory:
            return "memory"
        if time.monotonic() > deadline:
            return "timeout"
    return ""


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _MESSAGE_BYTES))
    return log.read().decode("utf-8", "replace").strip()
