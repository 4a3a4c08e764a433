"""Command line of the reference encoder."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from refenc.backends import NAMES, named

if TYPE_CHECKING:
    from refenc.keyframes import KeyframeCodec
    from refenc.source import VideoInfo
    from tgv_format.sequence import SequenceHeader

PROG = "refenc"
_KINDS = frozenset({"trajectory", "flow", "scene", "interpolation"})


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=PROG,
        description="Reference encoder of TGV, the bitstream of generative video coding.",
        epilog="Exit status: 0 encoded; 1 a file cannot be read or written; 2 wrong usage.",
    )
    p.add_argument("input", help="any video that FFmpeg reads, or - for Y4M on standard input")
    p.add_argument(
        "output",
        nargs="?",
        help="the .tgv file, or - for standard output; default: the input's name with .tgv",
    )
    p.add_argument(
        "--bitrate", type=_positive, metavar="KBIT", help="kbit/s to aim at (default: constant quality)"
    )
    p.add_argument(
        "--quality",
        type=_percent,
        metavar="Q",
        help="keyframe quality without --bitrate, 0 (worst) to 100 (default: one for 10 to 20 kbit/s at "
        "512x320)",
    )
    p.add_argument(
        "--preset",
        choices=("fast", "medium", "slow"),
        default="medium",
        help="how much to try for the best picture (default: %(default)s)",
    )
    p.add_argument(
        "--keyframe-codec",
        choices=("av1-sequence", "av1", "vvc", "illm"),
        default="av1-sequence",
        help="av1-sequence (the default): AV1 with prediction from earlier keyframes; av1: stills; vvc: "
        "stills, which need VVenC's vvencapp on PATH; illm: learned, see --model",
    )
    p.add_argument(
        "--model",
        default="tgv-illm-s",
        metavar="NAME",
        help="of learned keyframes: a name that refdec-models lists, or a .tgvm file (default: %(default)s)",
    )
    p.add_argument("--size", type=_size, metavar="WxH", help="scale to this size")
    p.add_argument(
        "--crop", action="store_true", help="crop to the shape of --size instead of distorting the samples"
    )
    p.add_argument(
        "--keyframe-interval",
        type=_natural,
        metavar="N",
        help="frames between keyframes (default: what looks best, at most 29; a second where keyframes are "
        "stills or --guidance has no interpolation)",
    )
    p.add_argument(
        "--random-access",
        type=_positive,
        default=5.0,
        metavar="SECONDS",
        help="between keyframes that are not predicted from earlier ones, or little more (default: "
        "%(default)s)",
    )
    p.add_argument(
        "--guidance",
        type=_kinds,
        metavar="KIND[,KIND]",
        help="what may be sent besides keyframes, where it pays: trajectory (points), flow (flow tokens), "
        "scene (camera poses, and masks where there are points), interpolation (motion found by the decoder, "
        "and sharpening), or all (default: interpolation; with --preset slow trajectory,interpolation)",
    )
    p.add_argument(
        "--max-points",
        type=_count,
        metavar="N",
        help="trajectories per clip at most; 0 for none (default 160)",
    )
    p.add_argument(
        "--text",
        "--caption",
        metavar="FILE|STRING",
        help="a caption that goes with the first clip: the contents of a file, or the string itself",
    )
    _add_analysis(p)
    p.add_argument("--generator", metavar="NAME", help="name of the generator to hint at")
    p.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of clustering, and of the hinted generator's noise (default 0)",
    )
    p.add_argument("--no-crc", action="store_true", help="leave out the checksums of units")
    p.add_argument(
        "--workers",
        type=_natural,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads (default: one a core); the bytes do not depend on it",
    )
    p.add_argument("--report", metavar="FILE", help="write what the bits are spent on as JSON")
    p.add_argument("--version", action="version", version="%(prog)s 0.1.0 (TGV 0.1)")
    return p


def _add_analysis(p: argparse.ArgumentParser) -> None:
    """Options that say who analyses what, and how."""
    group = p.add_argument_group("analysis", "MODEL is a file or folder, or a name in the user's cache.")
    for kind, names in NAMES.items():
        task = " describes the first picture" if kind == "captioner" else ""
        group.add_argument(
            f"--{kind}",
            type=_backend(kind),
            default=names[0],
            metavar="NAME[=MODEL]",
            help=f"{', '.join(names)}{task} (default: %(default)s)",
        )
    group.add_argument("--language", metavar="MODEL", help="that names what moves in a caption, for sam2")
    group.add_argument("--detector", metavar="MODEL", help="that finds what is named, for sam2")
    group.add_argument(
        "--cut-similarity",
        type=float,
        metavar="X",
        help="a scene begins where frames are less similar, 0 to 1 (default: by similarity and structure)",
    )
    group.add_argument(
        "--keyframes",
        choices=("even", "semantic"),
        default="even",
        help="evenly spaced, or of every half interval the frame least similar to the others",
    )


def _backend(kind: str) -> Callable[[str], str]:
    def checked(text: str) -> str:
        try:
            named(kind, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text

    return checked


def _kinds(text: str) -> frozenset[str]:
    kinds = frozenset(_KINDS if text == "all" else text.split(","))
    if not kinds <= _KINDS:
        raise argparse.ArgumentTypeError(f"{text} is not made of {', '.join(sorted(_KINDS))}, or all")
    return kinds


def _natural(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is out of range")
    return value


def _percent(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..100")
    return value


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    return _natural(width), _natural(height)


def main(argv: list[str] | None = None) -> int:
    p = parser()
    args = p.parse_intermixed_args(argv)
    if args.output is None:
        if args.input == "-":
            p.error("reading standard input needs an output")
        args.output = str(Path(args.input).with_suffix(".tgv"))
    if args.output == args.report == "-":
        p.error("the stream and the report cannot both go to standard output")
    if args.crop and not args.size:
        p.error("--crop needs --size")
    try:
        return run(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def run(args: argparse.Namespace) -> int:
    try:
        from refenc.source import SourceError
        from tgv_format.syntax import ParameterError
    except ModuleNotFoundError as error:
        return _complain(f"{error.name} is not installed; pip install 'tgv[codec]'")
    try:
        with contextlib.ExitStack() as stack:
            report = _encode(args, stack)
    except (SourceError, ParameterError, ValueError) as error:
        return _complain(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        name = str(error.filename or args.output).removesuffix(".part")
        return _complain(f"{name}: {error.strerror or error}")
    except ModuleNotFoundError as error:
        if error.name == "pycolmap":
            return _complain("pycolmap is not installed; pip install pycolmap")
        neural = {"torch", "torchvision", "transformers", "huggingface_hub"}
        extra = "neural" if args.keyframe_codec == "illm" or error.name in neural else "codec"
        return _complain(f"{error.name} is not installed; pip install 'tgv[{extra}]'")
    _remark(args, report)
    return 0


def _complain(message: str) -> int:
    print(f"{PROG}: {message}", file=sys.stderr)
    return 1


def _remark(args: argparse.Namespace, report: dict[str, Any]) -> None:
    if args.bitrate and abs(report["kbps"] / args.bitrate - 1) > 0.1:
        _complain(
            f"{report['kbps']:.2f} kbit/s: the content does not allow {args.bitrate:g} with these keyframes"
        )


def _codec(args: argparse.Namespace, info: VideoInfo) -> KeyframeCodec:
    if args.keyframe_codec == "illm":
        from refenc import illm

        return illm.codec(args.model, info.colour)
    from refenc.keyframes import CODECS

    return CODECS[args.keyframe_codec]


def _encode(args: argparse.Namespace, stack: contextlib.ExitStack) -> dict[str, Any]:
    from tqdm import tqdm

    from refenc.backends.select import select
    from refenc.encoder import PRESETS, EncoderOptions, encode
    from refenc.guidance import GuidanceOptions
    from refenc.source import open_source
    from tgv_format.generator_hint import GeneratorHint, Sampler
    from tgv_format.writer import Writer

    source = stack.enter_context(open_source(args.input, args.size, args.crop))
    info = source.info
    hint = None
    if args.generator:
        hint = GeneratorHint(args.generator, bytes(32), Sampler.UNSPECIFIED, 0, 0, args.seed % 2**64)
    sequence = header(info, not args.no_crc)
    preset = PRESETS[args.preset]
    codec = _codec(args, info)
    guidance = GuidanceOptions(kinds=args.guidance or preset.kinds)
    if args.max_points is not None:
        guidance = replace(guidance, max_points=min(args.max_points, sequence.limits.trajectories))
    named = {kind: vars(args)[kind.replace("-", "_")] for kind in (*NAMES, "language", "detector")}
    analysis = {kind: name for kind, name in named.items() if name}
    options = EncoderOptions(
        backends=select(analysis, info.colour),
        cut_similarity=args.cut_similarity,
        semantic_keyframes=args.keyframes == "semantic",
        bitrate=args.bitrate * 1000 if args.bitrate else None,
        codec=codec,
        step=None if args.quality is None else round(args.quality / 100 * (len(codec.ladder) - 1)),
        interval=args.keyframe_interval,
        preset=preset,
        random_access=args.random_access,
        guidance=guidance,
        caption=args.text and unicodedata.normalize("NFC", _text(args.text)),
        hint=hint,
        seed=args.seed % 2**32,
        workers=args.workers,
    )
    output = stack.enter_context(Output(args.output))
    writer = Writer(output.file, sequence)
    bar = stack.enter_context(
        tqdm(total=info.frames, unit=" frames", desc=Path(args.input).name, disable=not sys.stderr.isatty())
    )
    clips = [vars(c) for c in encode(source, writer, options, bar.update)]
    seconds = writer.frames / float(info.frame_rate)
    report = {
        "file": args.output,
        "width": info.width,
        "height": info.height,
        "frame_rate": [info.frame_rate.numerator, info.frame_rate.denominator],
        "frames": writer.frames,
        "bytes": writer.size,
        "kbps": writer.size * 8 / seconds / 1000,
        "bpp": writer.size * 8 / (writer.frames * info.width * info.height),
        "bits": {part: 8 * size for part, size in sorted(writer.bytes_by_part.items())},
        "clips": clips,
    }
    if args.report:
        _write(args.report, json.dumps(report, indent=2) + "\n")
    output.keep()
    return report


def _write(path: str, text: str) -> None:
    if path == "-":
        print(text, end="")
    else:
        Path(path).write_text(text, encoding="utf-8")


def _text(argument: str) -> str:
    """The contents of the file ``argument``, or without such a file the argument itself."""
    if not os.path.isfile(argument):
        return argument
    try:
        return Path(argument).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{argument}: {error}") from error


def header(info: VideoInfo, crc: bool) -> SequenceHeader:
    """The sequence header for a source."""
    from tgv_format.levels import level_for
    from tgv_format.sequence import SequenceHeader

    return SequenceHeader(
        width=info.width,
        height=info.height,
        frame_rate=info.frame_rate,
        level=level_for(info.width, info.height).level,
        colour=info.colour,
        sample_aspect=info.sample_aspect,
        crc=crc,
    )


class Output:
    """The output file, which only stays when it is complete; ``-`` is standard output."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = f"{path}.part"
        self._kept = path == "-"

    def __enter__(self) -> Output:
        if os.path.isdir(self._path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
        self.file: BinaryIO = sys.stdout.buffer if self._path == "-" else open(self._temporary, "wb")
        return self

    def keep(self) -> None:
        """The file is complete: move it into place."""
        if not self._kept:
            self.file.close()
            os.replace(self._temporary, self._path)
            self._kept = True
        else:
            self.file.flush()

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            self.file.close()
            os.unlink(self._temporary)


if __name__ == "__main__":
    sys.exit(main())
