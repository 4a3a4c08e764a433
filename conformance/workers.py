"""Decoders under test, several at once, and what each vector asks of them."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conformance import divergence, reference
from conformance.decoder import (
    OUTPUTS,
    CommandDecoder,
    CommandError,
    Decoder,
    Limits,
    PersistentDecoder,
)
from conformance.divergence import Divergence
from conformance.manifest import Vector
from conformance.verdict import Result, Verdict, judge, wanted

#: Of the classes from this one on decoders write pictures or latents.
FIRST_OF_PICTURES = 3


class Workers:
    """``jobs`` decoders of one kind.

    ``outputs`` are those of a persistent decoder, None for a command that is run for every vector. The
    ``classes`` are those to check, of which the outputs allow some. ``tracer`` is a command that writes the
    symbol trace.
    CommandError when the commands do not make sense.
    """

    def __init__(
        self,
        command: str,
        outputs: Sequence[str] | None,
        tracer: str | None,
        limits: Limits,
        jobs: int,
        classes: Collection[int],
    ) -> None:
        decoders: list[Decoder] = [
            CommandDecoder(command, limits)
            if outputs is None
            else PersistentDecoder(command, limits, set(outputs))
            for _ in range(jobs)
        ]
        self._offered, self._required = decoders[0].outputs, decoders[0].required
        if unknown := self._offered - set(OUTPUTS) | self._offered & {"trace"}:
            raise CommandError(
                f"the decoder is not asked for {min(unknown)}: params, frames, md5 or latents it can be"
            )
        possible = {1}
        if "params" in self._offered:
            possible |= {2}
        if self._offered & {"md5", "frames"}:
            possible |= {3, 4}
        if "latents" in self._offered:
            possible |= {3}
        self.classes = tuple(sorted(possible & set(classes)))
        self._tracer = CommandDecoder(tracer, limits) if tracer else None
        if self._tracer and self._tracer.outputs != {"trace"}:
            raise CommandError("the command of the trace decoder needs {input} and {trace}")
        self._jobs = jobs
        self._idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in decoders:
            self._idle.put(decoder)

    def _checked(self, vector: Vector) -> tuple[int, ...]:
        """The classes that can be checked with a vector by what the decoder writes."""
        shows = self._offered & ({"latents"} if vector.learned else {"md5", "frames"})
        return tuple(
            sorted(n for n in set(vector.classes) & set(self.classes) if n < FIRST_OF_PICTURES or shows)
        )

    def applies(self, vector: Vector) -> bool:
        """Whether the vector is about the classes, and the decoder need not write more than it is about."""
        if not self._checked(vector):
            return False
        return not vector.valid or self._required <= wanted(vector, vector.classes, self._offered)

    def run(self, chosen: Sequence[Vector], tell: Callable[[Result], None]) -> list[Result]:
        """The results in the order of ``chosen``; ``tell`` hears of each as it comes."""

        def one(vector: Vector) -> Result:
            decoder = self._idle.get()
            try:
                result = self._one(vector, decoder)
            finally:
                self._idle.put(decoder)
            tell(result)
            return result

        with ThreadPoolExecutor(self._jobs) as executor:
            try:
                return list(executor.map(one, chosen))
            finally:
                executor.shutdown(cancel_futures=True)
                while not self._idle.empty():
                    self._idle.get().close()

    def _one(self, vector: Vector, decoder: Decoder) -> Result:
        names = wanted(vector, self.classes, self._offered)
        with tempfile.TemporaryDirectory(prefix="tgv-") as folder:
            paths = {name: Path(folder, name) for name in sorted(names | self._required)}
            outcome = decoder.decode(vector.stream_path, paths)
            outputs = {name: paths[name] for name in sorted(names)}
            verdict, message, found = judge(vector, outcome, outputs, self.classes)
            lost = verdict in (Verdict.REJECTED_VALID, Verdict.CRASH) and vector.valid
            if self._tracer is not None and (lost or (found is not None and found.stage == "parameters")):
                symbol = self._first_symbol(self._tracer, vector, Path(folder, "trace"))
                if symbol is not None:
                    found, message = symbol, f"{message}\n{symbol.sentence()}"
        return Result(vector, verdict, self._checked(vector), outcome.seconds, message, outcome.error, found)

    @staticmethod
    def _first_symbol(tracer: CommandDecoder, vector: Vector, path: Path) -> Divergence | None:
        tracer.decode(vector.stream_path, {"trace": path})
        if not path.is_file():
            return None
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return divergence.in_trace(reference.load(vector), lines)
