"""Command line of the reference decoder."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

PROG = "refdec"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=PROG,
        description="Reference decoder of TGV, the bitstream of generative video coding.",
        epilog="Exit status: 0 decoded; 1 the stream breaks the specification, or a file cannot be read or "
        "written; 2 wrong usage.",
    )
    p.add_argument("input", help="a .tgv file, or - for standard input")
    p.add_argument(
        "output",
        nargs="?",
        help="FILE.mp4, FILE.mkv (lossless), FILE.y4m, a folder/ for PNGs, or - for raw 4:2:0 frames on "
        "standard output; default: the input's name with .mp4, unless one of the files below is asked for",
    )
    p.add_argument(
        "--format", choices=["mp4", "mkv", "y4m", "png", "raw"], help="output format (default: by the name)"
    )
    p.add_argument("--params", metavar="FILE", help="write the decoded parameters as canonical JSON")
    p.add_argument(
        "--frames-md5", metavar="FILE", help="write one line a frame: index and MD5 of its 4:2:0 planes"
    )
    p.add_argument(
        "--latents", metavar="FILE", help="write one line a learned keyframe: number, MD5s of its latents"
    )
    p.add_argument("--trace", metavar="FILE", help="write every entropy-coded symbol as a line of JSON")
    p.add_argument(
        "--partial", action="store_true", help="keep those files of a stream with an error, up to the error"
    )
    p.add_argument("--conceal", action="store_true", help="keep what is undamaged of a damaged stream")
    p.add_argument("--start", type=_natural, default=0, metavar="N", help="first frame to write (default 0)")
    p.add_argument("--frames", type=_natural, metavar="N", help="how many frames to write (default: all)")
    p.add_argument(
        "--threads", type=_natural, default=os.cpu_count() or 1, metavar="N", help="default: one a core"
    )
    p.add_argument("--version", action="version", version="%(prog)s 0.1.0 (TGV 0.1)")
    return p


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def main(argv: list[str] | None = None) -> int:
    p = parser()
    args = p.parse_intermixed_args(argv)
    side_outputs = args.params or args.frames_md5 or args.latents or args.trace
    if args.output is None and not side_outputs:
        if args.input == "-":
            p.error("reading standard input needs an output")
        args.output = default_output(args.input, args.format or "mp4")
        if not _replaceable(args.output):
            return _complain(f"{args.output} exists and was not made by refdec: name the output")
    try:
        return run(args)
    except BrokenPipeError:
        # The reader of our output has gone; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def default_output(source: str, kind: str) -> str:
    """Beside the input, with a suffix for the format."""
    suffix = {"png": "/", "raw": ".yuv"}.get(kind, f".{kind}")
    return os.path.splitext(source)[0] + suffix


def _replaceable(path: str) -> bool:
    """Whether a default output may take this name: clip.mp4 may be what clip.tgv was made from."""
    from refdec.output import MARK

    if not os.path.lexists(path):
        return True
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        head = file.read(1 << 16)
        file.seek(max(0, os.path.getsize(path) - (1 << 16)))
        return MARK.encode() in head + file.read()


def run(args: argparse.Namespace) -> int:
    try:
        from refdec.output import OutputError
        from tgv_format.errors import TgvError
    except ModuleNotFoundError as error:
        return _complain(f"{error.name} is not installed; pip install 'tgv[codec]'")
    try:
        with contextlib.ExitStack() as stack:
            return _decode(args, stack)
    except (TgvError, OutputError) as error:
        return _complain(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        name = str(error.filename or args.input).removesuffix(".part")
        return _complain(f"{name}: {error.strerror or error}")
    except ModuleNotFoundError as error:
        return _complain(f"{error.name} is not installed; pip install 'tgv[codec]'")


def _complain(message: str) -> int:
    print(f"{PROG}: {message}", file=sys.stderr)
    return 1


def _decode(args: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from refdec import keyframes
    from refdec.decoder import Decoder
    from refdec.output import OutputInfo, open_writer
    from tgv_format.errors import TgvError
    from tgv_format.keyframe import Codec, Keyframe
    from tgv_format.reader import Element, Reader

    damages: list[TgvError] = []
    conceal = damages.append if args.conceal else None
    source: BinaryIO = sys.stdin.buffer
    if args.input != "-":
        source = open(args.input, "rb")  # noqa: SIM115
        stack.callback(source.close)
    names = args.trace, args.params, args.frames_md5, args.latents
    trace, params, md5, latents = (
        stack.enter_context(TextFile(n, args.partial)) if n else None for n in names
    )
    reader = Reader(source, trace.json_line if trace else None, conceal)
    header = reader.header
    if params:
        params.write("[\n" + _canonical(header.to_json()))

    def write_latents(keyframe: Keyframe, number: int) -> None:
        assert latents is not None
        size, sink = (header.width, header.height), trace.json_line if trace else None
        try:
            found = keyframes.latents(keyframe, *size, f"keyframe[{number}]", sink)
        except TgvError as error:
            if conceal is None:
                raise
            conceal(error)
            return
        latents.write(f"{number} {found.z_md5()} {found.y_md5()}\n")

    def elements() -> Iterator[Element]:
        count = 0
        for element in reader:
            if params:
                params.write(",\n" + _canonical(element.to_json()))
            if isinstance(element, Keyframe):
                if latents and element.codec is Codec.ILLM:
                    write_latents(element, count)
                count += 1
            yield element
        if params:
            params.write("\n]\n")

    if args.output is None and md5 is None:
        for _ in elements():
            pass
        return _report(damages)
    mapper: Any = map
    if args.threads > 1:
        mapper = stack.enter_context(ThreadPoolExecutor(args.threads)).map
    decoder = Decoder(header, args.start, args.frames, mapper, conceal)
    writer = None
    try:
        if args.output is not None:
            info = OutputInfo(
                header.width, header.height, header.frame_rate, header.colour, header.sample_aspect
            )
            writer = open_writer(args.output, info, args.format)
        stream = elements()
        for index, picture in enumerate(decoder.pictures(stream), args.start):
            if md5:
                md5.write(f"{index} {picture.md5()}\n")
            if writer:
                writer.write(picture)
        if params or trace or latents:
            for _ in stream:
                pass
        if writer:
            writer.close()
    except BaseException:
        if writer:
            writer.abort()
        raise
    return _report(damages)


def _canonical(value: Any) -> str:
    from tgv_format.canonical import dumps

    return dumps(value).decode("ascii")


def _report(damages: list[Any]) -> int:
    for error in damages:
        _complain(f"concealed: {error}")
    return 1 if damages else 0


class TextFile:
    """A text file that only stays when all went well, or it may be ``partial``; ``-`` is standard output."""

    def __init__(self, path: str, partial: bool = False) -> None:
        self._path = path
        self._partial = partial
        self._temporary = f"{path}.part"

    def __enter__(self) -> TextFile:
        self._file: IO[str] = (
            sys.stdout if self._path == "-" else open(self._temporary, "w", encoding="utf-8")
        )
        return self

    def write(self, text: str) -> None:
        self._file.write(text)

    def json_line(self, record: dict[str, object]) -> None:
        self.write(json.dumps(record) + "\n")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._path == "-":
            self._file.flush()
            return
        self._file.close()
        if kind is None or self._partial:
            os.replace(self._temporary, self._path)
        else:
            os.unlink(self._temporary)


if __name__ == "__main__":
    sys.exit(main())
