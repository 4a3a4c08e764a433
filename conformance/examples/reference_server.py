"""The reference decoder in persistent mode: a worked example of an adapter that is started once.

``tgv-conformance run --persistent --decoder 'python -m conformance.examples.reference_server'``
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from conformance.decoder import reported_error
from refdec import cli

#: The options of refdec by the name of the file in a request; pictures go to the positional output.
OPTIONS = {"params": "--params", "md5": "--frames-md5", "latents": "--latents", "trace": "--trace"}


def answer(request: dict[str, str]) -> dict[str, object]:
    """Decode as a request demands; the response."""
    words = [request["input"], *([request["frames"], "--format", "y4m"] if "frames" in request else [])]
    words += [word for name, option in OPTIONS.items() if name in request for word in (option, request[name])]
    if len(words) == 1:
        # Without any output refdec would write a video.
        words += ["--params", "-"]
    log = io.StringIO()
    with contextlib.redirect_stderr(log), contextlib.redirect_stdout(io.StringIO()):
        status = cli.main([*words, "--partial", "--threads", "1"])
    message = log.getvalue().strip()
    return {"id": request["id"], "status": status, "error": reported_error(message), "message": message}


def main() -> int:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
