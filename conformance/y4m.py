"""Reading YUV4MPEG2 files of 8-bit 4:2:0 pictures, as decoders write them for ``{frames}``."""

from __future__ import annotations

from tgv_format.picture import Picture, chroma_size


class Y4mError(ValueError):
    """Not a Y4M file, or one of other pictures."""


def read(data: bytes) -> list[Picture]:
    """All pictures of a file."""
    header, position = _line(data, 0)
    words = header.split(b" ")
    if words[0] != b"YUV4MPEG2":
        raise Y4mError("it does not begin with YUV4MPEG2")
    values = {word[:1]: word[1:] for word in words[1:]}
    try:
        width, height = int(values[b"W"]), int(values[b"H"])
    except (KeyError, ValueError):
        raise Y4mError("it has no size") from None
    # mpeg2, jpeg and paldv say where chroma samples lie, which does not concern us.
    if (
        values.get(b"C", b"420") not in (b"420", b"420mpeg2", b"420jpeg", b"420paldv")
        or min(width, height) < 1
    ):
        raise Y4mError("its pictures are of another kind")
    cw, ch = chroma_size(width, height)
    size = width * height + 2 * cw * ch
    pictures: list[Picture] = []
    while position < len(data):
        mark, position = _line(data, position)
        if not mark.startswith(b"FRAME") or position + size > len(data):
            raise Y4mError(f"frame {len(pictures)} is not whole")
        pictures.append(Picture.from_bytes(data[position : position + size], width, height))
        position += size
    return pictures


def _line(data: bytes, position: int) -> tuple[bytes, int]:
    end = data.find(b"\n", position, position + 256)
    if end < 0:
        raise Y4mError("a line does not end")
    return data[position:end], end + 1
