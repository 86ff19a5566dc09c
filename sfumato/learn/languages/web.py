"""The language in the address of a page, `?lang=zh`; a page that names none is led to the one that was chosen last."""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sfumato.learn import languages
from sfumato.learn.languages import LANGUAGES, SOURCE, TAGS, tr

QUERY = "lang"
COOKIE = "sfumato_language"
"""Of the language that was chosen last."""
YEAR = 365 * 24 * 3600


class Speaking:
    """An ASGI app whose pages name their language in the address; what it does for them is done in that language.

    Args:
        app: the ASGI app behind it.
        pages: whether a path, below the root, is that of a page.
    """

    def __init__(self, app: Any, pages: Callable[[str], bool]) -> None:
        self.app, self.pages = app, pages

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        named = languages.known(dict(query).get(QUERY))
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] in ("GET", "HEAD") and self.pages(path):
            if named:
                send = _remembering(send, named, scope)
            elif {chosen := _chosen(scope) or languages.default(), languages.default()} != {SOURCE}:
                rest = [(name, value) for name, value in query if name != QUERY]
                await _lead(send, f"{scope['path']}?{urlencode([*rest, (QUERY, chosen)])}")
                return
        with languages.using(named) if named else contextlib.nullcontext():
            await self.app(scope, receive, send)


def _chosen(scope: Any) -> str | None:
    """The language that the visitor chose last."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"cookie"]
    pairs = [pair.strip().partition("=") for line in lines for pair in line.split(";")]
    return languages.known({name: value for name, _, value in pairs}.get(COOKIE))


def _remembering(send: Any, language: str, scope: Any) -> Any:
    """A `send` that keeps the language in the visitor's browser."""
    cookie = f"{COOKIE}={language}; Path={scope.get('root_path', '')}/; Max-Age={YEAR}; SameSite=Strict"

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie.encode())]}
        await send(message)

    return sending


async def _lead(send: Any, where: str) -> None:
    headers = [(b"location", where.encode("latin-1", "replace")), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


# ---------------------------------------------------------------- in pages


def tag() -> str:
    """The value of the attribute `lang` of a page."""
    return TAGS[languages.language()]


def suffix() -> str:
    """What the addresses of other pages end in, so that they keep its language, whatever was chosen since."""
    return f"?{QUERY}={languages.language()}"


def switch(addresses: Mapping[str, str] | None = None) -> str:
    """HTML that leads to this page in the other languages; `lessons/lesson.html` and `export/place.js` keep the place.

    Args:
        addresses: language -> the address of this page in it; the same one without them, which names the language.
    """
    here = languages.language()
    led = {name: f"?{QUERY}={name}" for name in LANGUAGES} if addresses is None else addresses
    parts = []
    for name, address in led.items():
        if name == here:
            parts.append(f'<b lang="{TAGS[name]}" aria-current="true">{LANGUAGES[name]}</b>')
        else:
            known = f'lang="{TAGS[name]}" hreflang="{TAGS[name]}" data-language'
            parts.append(f'<a href="{html.escape(address)}" {known}>{LANGUAGES[name]}</a>')
    return f'<span class="sf-languages">{" | ".join(parts)}</span>'


SHOWN = re.compile(r"(?<=>)[^<>]+(?=<)|(?<=aria-label=\")[^\"]+")
"""What a page shows as text, between its tags and as names of its elements."""


def page(text: str, messages: dict[str, str]) -> str:
    """A page of HTML in the language that is asked for.

    Args:
        text: in English, with an empty element of class sf-languages for the switch.
        messages: for its script, which reads them from the element with the id messages.
    """
    head, mark, body = text.partition("<body>")
    body = SHOWN.sub(lambda found: html.escape(shown(html.unescape(found[0])), quote=False), body)
    head = re.sub("<title>(.*?)</title>", lambda found: f"<title>{html.escape(tr(found[1]))}</title>", head)
    head = head.replace('lang="en"', f'lang="{tag()}"')
    data = json.dumps(messages).replace("</", "<\\/")
    head = head.replace('id="messages">{}<', f'id="messages">{data}<')
    body = body.replace('<span class="sf-languages"></span>', switch()).replace('href="../"', f'href="../{suffix()}"')
    return head + mark + body


def shown(text: str) -> str:
    """What stands between two tags, translated as one line; spaces at its ends are kept."""
    line = " ".join(text.split())
    if not line:
        return text
    start, end = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return start + tr(line) + end
