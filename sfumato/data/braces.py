"""Names with braces, expanded as the shell does: {a,b}, {000..099}, {0..9..2}, {a..e}, nested; counted before.

A line of text can stand for millions of names, so it is known how many there are before there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

RANGE = re.compile(r"(-?\d{1,18}|[A-Za-z])\.\.(-?\d{1,18}|[A-Za-z])(?:\.\.(-?\d{1,18}))?")

LENGTH = 4096
"""Letters of the longest text."""


def expanded(text: str, most: int) -> list[str]:
    """All names that a text stands for, in order.

    Raises:
        ValueError: it stands for more than so many, or is too long or too deep to tell.
    """
    if len(text) > LENGTH:
        raise ValueError(f"names of more than {LENGTH:,} letters")
    try:
        number = _count(text)
        if number > most:
            raise ValueError(f"{number:,} names, where {most:,} are the most")
        return list(_names(text))
    except RecursionError:
        raise ValueError("braces within braces too deep") from None


def _count(text: str) -> int:
    if (split := _split(text)) is None:
        return 1
    _, choices, tail = split
    inside = len(_numbers(choices)) if isinstance(choices, re.Match) else sum(map(_count, choices))
    return inside * _count(tail)


def _names(text: str) -> Iterator[str]:
    if (split := _split(text)) is None:
        yield text
        return
    head, choices, tail = split
    if isinstance(choices, re.Match):
        middles: Iterator[str] = (_word(choices, number) for number in _numbers(choices))
    else:
        middles = (name for choice in choices for name in _names(choice))
    ends = list(_names(tail))
    for middle in middles:
        yield from (head + middle + end for end in ends)


def _split(text: str) -> tuple[str, list[str] | re.Match[str], str] | None:
    """What stands before the first braces that mean something, what they hold, and the rest; None without such."""
    opening, ends = _pairs(text)
    for start in opening:
        end = ends[start]
        if found := RANGE.fullmatch(text, start + 1, end):
            if found[1].lstrip("-").isdigit() == found[2].lstrip("-").isdigit():
                return text[:start], found, text[end + 1 :]
        elif len(choices := _choices(text[start + 1 : end])) > 1:
            return text[:start], choices, text[end + 1 :]
    return None


def _pairs(text: str) -> tuple[list[int], dict[int, int]]:
    """Where braces open that are closed, in order, and where each is closed."""
    waiting, ends = list[int](), dict[int, int]()
    for place, letter in enumerate(text):
        if letter == "{":
            waiting.append(place)
        elif letter == "}" and waiting:
            ends[waiting.pop()] = place
    return sorted(ends), ends


def _choices(body: str) -> list[str]:
    """A text cut at the commas that stand in no braces."""
    _, ends = _pairs(body)
    choices, start, place = list[str](), 0, 0
    while place < len(body):
        if place in ends:
            place = ends[place]
        elif body[place] == ",":
            choices.append(body[start:place])
            start = place + 1
        place += 1
    return [*choices, body[start:]]


def _numbers(found: re.Match[str]) -> range:
    first, last = (int(part) if part.lstrip("-").isdigit() else ord(part) for part in found.group(1, 2))
    step = abs(int(found[3] or 1)) or 1
    return range(first, last + 1, step) if last >= first else range(first, last - 1, -step)


def _word(found: re.Match[str], number: int) -> str:
    """A number of a range as it is written: with the zeros of the range's ends, or as a letter."""
    if not found[1].lstrip("-").isdigit():
        return chr(number)
    padded = any(len(end.lstrip("-")) > 1 and end.lstrip("-").startswith("0") for end in found.group(1, 2))
    return f"{number:0{max(map(len, found.group(1, 2)))}d}" if padded else str(number)
