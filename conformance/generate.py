"""Make all vectors and expectations of the suite from their recipes.

Streams are written from the parameters in the recipe or patched from another vector; then the reference
decoder says what they decode to. What the reference encoder makes of a scene depends on the versions of
OpenCV and libaom. Its decisions (``NAME.units.json``) and AV1 payloads (``assets``) are therefore stored, and
made anew with ``--encode`` alone, in a checkout.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from functools import cache
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="vectors, or patterns of names; default: all"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when anything would be different"
    )
    parser.add_argument(
        "--encode", action="store_true", help="run the reference encoder where a recipe says so"
    )


def main(args: argparse.Namespace) -> int:
    from conformance import manifest

    if args.encode:
        from conformance import scenes

        scenes.encode(args.names)
    different = failed = 0
    for vector in manifest.vectors():
        if args.names and not any(fnmatch.fnmatch(vector.name, name) for name in args.names):
            continue
        try:
            files = generated(vector.recipe_path)
        except Exception as error:
            # After a change of the syntax, what does not fit it any more is to be seen at once.
            print(f"{vector.recipe_path}: {error!r}", file=sys.stderr)
            failed += 1
            continue
        for path, content in files.items():
            if path.is_file() and path.read_bytes() == content:
                continue
            different += 1
            if args.check:
                print(f"{path} is different", file=sys.stderr)
            else:
                path.write_bytes(content)
    if args.check:
        changed = manifest.changed_files() if not args.names else []
        for name in changed:
            print(f"{name} is not what vectors.lock says", file=sys.stderr)
        return int(different + failed + len(changed) > 0)
    manifest.write_lock()
    return int(failed > 0)


def generated(recipe: Path) -> dict[Path, bytes]:
    """The stream and the expectation of a recipe, by path."""
    from conformance import expect, manifest

    vector = manifest.read_recipe(recipe)
    data = stream(recipe)
    make = expect.valid if vector.valid else expect.invalid
    expectation = manifest.dumps(make(data, vector.classes))
    return {vector.stream_path: data, vector.expectation_path: expectation}


@cache
def _recipes() -> dict[str, Path]:
    from conformance import manifest

    return {vector.name: vector.recipe_path for vector in manifest.vectors()}


@cache
def stream(recipe: Path) -> bytes:
    """The bytes of the stream of a recipe, made anew with those of the streams that it is based on."""
    from conformance import manifest, patches, sources

    vector = manifest.read_recipe(recipe)
    if vector.base is None:
        return sources.build(vector.recipe | {"name": vector.name}, recipe.parent)
    return patches.apply(stream(_recipes()[vector.base]), vector.recipe.get("patch", []))
