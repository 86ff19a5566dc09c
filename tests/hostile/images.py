"""Picture files: many formats and colours, suffixes that lie, PostScript, bombs, and every kind of damage."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile import materials as m
from tests.hostile.case import ACCEPT, CANARY, EITHER, REFUSE, Case, short

ALONE = ["inspect", "folder:pictures"]
SIZED = ["inspect", "folder:pictures?size=8"]


def _case(name: str, content: Callable[[], bytes], suffix: str = ".png", words: list[str] = ALONE, expect: str = EITHER,
          beside: int = 0, heavy: bool = False) -> Case:
    """A folder with one picture, and good ones beside it."""
    def build(folder: Path) -> list[str]:
        (folder / "pictures").mkdir()
        for i in range(beside):
            (folder / "pictures" / f"good{i}.png").write_bytes(m.png())
        (folder / "pictures" / f"x{suffix}").write_bytes(content())
        m.copied("linear.safetensors", folder / "linear.safetensors")
        return words

    return Case("images", name, build, expect, heavy=heavy)


def encoded(kind: str, mode: str = "RGB", side: int = 8, **options: object) -> bytes:
    """A picture in a format and a mode."""
    rng = np.random.default_rng(1)
    if mode == "I;16":
        made = Image.fromarray(rng.integers(0, 65536, (side, side), dtype=np.uint16))
    elif mode == "F":
        made = Image.fromarray(rng.random((side, side), dtype=np.float32))
    elif mode == "I":
        made = Image.fromarray(rng.integers(0, 65536, (side, side), dtype=np.int32))
    else:
        made = Image.fromarray(rng.integers(0, 256, (side, side, 4), dtype=np.uint8), "RGBA").convert(mode)
    buffer = io.BytesIO()
    made.save(buffer, kind, **options)
    return buffer.getvalue()


FORMATS = {"png": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"), "jpeg": ("L", "RGB", "CMYK"), "webp": ("RGB", "RGBA"),
           "gif": ("L", "P", "RGB"), "bmp": ("1", "L", "P", "RGB"),
           "tiff": ("1", "L", "I;16", "F", "CMYK", "LAB", "YCbCr", "RGB", "RGBA"),
           "ppm": ("1", "L", "RGB"), "avif": ("RGB", "RGBA")}
SUFFIX = {"jpeg": ".jpg", "tiff": ".tif"}
OTHER = {"tga": "RGB", "ico": "RGBA", "pcx": "RGB", "sgi": "RGB", "im": "RGB", "dds": "RGBA", "icns": "RGBA",
         "msp": "1", "xbm": "1", "jpeg2000": "RGB",
         "pdf": "RGB", "eps": "RGB", "spider": "F"}
"""Formats that are not read, and a mode of each."""


def _formats() -> Iterator[Case]:
    for kind, modes in FORMATS.items():
        for mode in modes:
            yield _case(f"{kind} {mode}", lambda kind=kind, mode=mode: encoded(kind, mode),
                        SUFFIX.get(kind, f".{kind}"), expect=EITHER if mode in ("F", "LAB", "I") or kind == "avif" else
                        ACCEPT)
    for kind in FORMATS:
        for suffix in (".png", ".jpg", ".gif", ".PNG"):
            yield _case(f"{kind} as {suffix}", lambda kind=kind: encoded(kind), suffix)
    for kind, mode in OTHER.items():
        for suffix in dict.fromkeys((".png", ".tga", f".{kind}")):
            yield _case(f"{kind} as {suffix}", lambda kind=kind, mode=mode: encoded(kind, mode, 32), suffix,
                        expect=REFUSE)


POSTSCRIPT = (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(" + CANARY.encode() +
              b") (w) file closefile\n"
              b"(%pipe%touch " + CANARY.encode() + b") (w) file closefile\nshowpage\n%%EOF\n")


def _code() -> Iterator[Case]:
    for suffix in (".png", ".jpg", ".gif", ".tif", ".bmp", ".webp", ".ppm", ".pgm"):
        yield _case(f"PostScript as {suffix}", lambda: POSTSCRIPT, suffix, expect=REFUSE)
        yield _case(f"PostScript as {suffix} among others", lambda: POSTSCRIPT, suffix, beside=3)
    for words in (["edit", "inpaint", "linear.safetensors", "--data", "digits:test", "-n", "1", "--steps", "1",
                   "--mask", "pictures/x.png", "--out", "out"],
                  ["edit", "superres", "linear.safetensors", "--data", "pictures/x.png", "--steps", "1", "--out",
                   "out"],
                  ["sample", "linear.safetensors", "-n", "1", "--low-res", "pictures", "--steps", "1", "--out", "out"],
                  ["prepare", "folder:pictures", "out"], ["prepare", "folder:pictures", "out", "--shards"],
                  ["evaluate", "pictures", "--reference", "digits:test", "--out", "out"],
                  ["train", "ddpm/digits", "--data", "folder:pictures", *m.TINY, "--out", "out"]):
        for name, content in (("PostScript", POSTSCRIPT), ("text", b"hello"), ("nothing", b""),
                              ("half a picture", m.png()[:60])):
            expect = EITHER if words[0] == "sample" else REFUSE
            yield _case(f"{name} to {' '.join(words[:2])} {len(words)}", lambda content=content: content, words=words,
                        expect=expect)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes | None = None,
           more: bytes = b"") -> bytes:
    """A PNG file that says of itself what it is told to."""
    packed = zlib.compress(bytes(64)) if data is None else data
    head = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _full(side: int, depth: int, colour: int) -> bytes:
    """A whole PNG of one colour, with so many pixels a side."""
    row = 1 + side * depth // 8 * {0: 1, 2: 3, 6: 4}[colour]
    packer = zlib.compressobj(9)
    return png_of(side, side, depth, colour, b"".join(packer.compress(bytes(row)) for _ in range(side)) +
                  packer.flush())


def _bombs() -> Iterator[Case]:
    for width, height in ((2**31 - 1, 2**31 - 1), (0, 0), (1, 2**31 - 1), (65536, 65536), (30_000, 30_000), (2**31, 1)):
        for words in (ALONE, SIZED):
            yield _case(f"a PNG that says {width}x{height}, {len(words[1])}", lambda w=width, h=height: png_of(w, h),
                        words=words, expect=EITHER)
    for side, depth, colour in ((9_000, 8, 0), (9_000, 16, 0), (9_000, 8, 6), (12_000, 16, 2), (16_000, 16, 6),
                                (20_000, 16, 6)):
        yield _case(f"a whole PNG of {side} a side, {depth} bits, colour {colour}", lambda s=side, d=depth,
                    c=colour: _full(s, d, c), words=SIZED, heavy=True)
    for kind, tag in (("iCCP", b"iCCP"), ("zTXt", b"zTXt"), ("iTXt", b"iTXt")):
        def text(tag: bytes = tag) -> bytes:
            body = b"a\x00\x00" + (b"\x00\x00" if tag == b"iTXt" else b"") + zlib.compress(bytes(200_000_000), 1)
            return png_of(8, 8, data=zlib.compress(bytes(72)), more=chunk(tag, body))
        yield _case(f"a PNG with 200 MB of {kind}", text, heavy=True)
    yield _case("a PNG of 100,000 chunks", lambda: png_of(8, 8, data=zlib.compress(bytes(72)),
                                                          more=chunk(b"tEXt", b"a\0b") * 100_000))
    yield _case("a GIF that says 65535", lambda: b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b"\x2c" +
                bytes(4) + b"\xff\xff\xff\xff\x00\x02\x02\x4c\x01\x00;", ".gif")
    yield _case("a GIF of 3,000 frames", lambda: encoded("gif", "L", 8, save_all=True,
                                                         append_images=[m.picture()] * 3000), ".gif", heavy=True)
    yield _case("a BMP that says 2^31", lambda: b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) +
                struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100), ".bmp")
    yield _case("a BMP of negative size", lambda: b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) +
                struct.pack("<IiiHHIIiiII", 40, -8, -8, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(300), ".bmp")
    for text in ("P6 99999 99999 255\n", "P6 8 8 0\n", "P6 8 8 99999\n", "P6 -8 8 255\n", "P5 8 8 65535\n", "P6 " +
                 "9" * 100 + " 8 255\n", "P6 # " + "x" * 1_000_000, "P3 8 8 255\n" + "9" * 9000, "PF 8 8 nan\n"):
        yield _case(f"PPM {short(text[:30])} of {len(text)}", lambda text=text: text.encode() + bytes(200), ".ppm")


def _damaged() -> Iterator[Case]:
    chance = random.Random(4)
    kinds = [("png", "RGB"), ("jpeg", "RGB"), ("webp", "RGB"), ("gif", "P"), ("bmp", "RGB"), ("tiff", "RGB"),
             ("ppm", "RGB"), ("png", "P"), ("jpeg", "CMYK"), ("tiff", "I;16"), ("avif", "RGB")]
    for kind, mode in kinds:
        for i in range(5):
            share = chance.random()
            yield _case(f"{kind} {mode} cut at {share:.3f}", lambda k=kind, mo=mode,
                        s=share: encoded(k, mo)[: int(s * len(encoded(k, mo)))], SUFFIX.get(kind, f".{kind}"),
                        [ALONE, SIZED][i % 2], beside=i % 2 * 2)
        for i in range(5):
            place, bit = chance.random() ** 2, chance.randrange(8)
            def flip(kind: str = kind, mode: str = mode, place: float = place, bit: int = bit) -> bytes:
                content = bytearray(encoded(kind, mode))
                content[int(place * len(content))] ^= 1 << bit
                return bytes(content)
            yield _case(f"{kind} {mode} bit {bit} at {place:.3f}", flip, SUFFIX.get(kind, f".{kind}"),
                        [ALONE, SIZED][i % 2])
    for depth in (0, 3, 8, 16, 255):
        for colour in (0, 1, 2, 3, 4, 6, 7):
            yield _case(f"PNG depth {depth}, colour {colour}", lambda d=depth,
                        c=colour: png_of(8, 8, d, c, zlib.compress(bytes(600))))
    for name, content in {"empty": b"", "one byte": b"x", "text": b"hello", "PNG's mark": b"\x89PNG\r\n\x1a\n",
                          "a zip": b"PK\x03\x04" + bytes(50),
                          "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "HTML": b"<script>",
                          "JPEG's mark": b"\xff\xd8\xff",
                          "TIFF's mark": b"II*\x00\xff\xff\xff\xff", "a TIFF in a circle": b"II*\x00\x08\x00\x00\x00" +
                          struct.pack("<HHHIII", 1, 256, 4, 1, 8, 8),
                          "WebP's mark": b"RIFF\xff\xff\xff\xffWEBPVP8 "}.items():
        for suffix in (".png", ".jpg", ".tif", ".webp"):
            yield _case(f"{name} as {suffix}", lambda content=content: content, suffix, expect=REFUSE)


def cases() -> Iterator[Case]:
    yield from _formats()
    yield from _code()
    yield from _bombs()
    yield from _damaged()
