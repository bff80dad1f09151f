"""What a person reads of an e-mail: its subject and its body. Standard library only.

Headers other than the subject, attachments, mark-up, addresses, links and the marks of the mailing list that a message
went through say who received it, not what it is: a classifier that sees them learns the archive and not the spam.
"""

from __future__ import annotations

import contextlib
import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import Message
from html.parser import HTMLParser

_HTML = re.compile(r"<(?:html|body|table|font|br|p|a)\b", re.IGNORECASE)
_LIST_TAG = re.compile(r"\s*(?:(?:re|fw|fwd|aw)(?:\[\d+\])?\s*:|\[[^\]]{1,40}\])", re.IGNORECASE)
_ADDRESS = re.compile(r"\S+@\S+")
_LINK = re.compile(r"<?(?:https?://|www\.)\S+|\S+\.taint\.org\S*", re.IGNORECASE)
_RULE = re.compile(r"[_=*-]{5,}|-- ?|-----BEGIN PGP SIGNATURE-----")
_FOOTER = re.compile(r"mailing list|listinfo|list-?master|unsubscribe|sponsored by|yahoo! groups|PGP SIGNATURE", re.IGNORECASE)
_MARK = re.compile(r"(?:URL|Date|Supplied by): |-----BEGIN PGP SIGNED|Hash: |--\w{16,}")


def read(raw: bytes) -> str:
    """Subject and body of a raw message as one text, white space folded; empty where it has neither.

    Links become `LINK`, addresses `ADDRESS`.
    """
    if raw.startswith(b"From "):  # the envelope line of an mbox file
        raw = raw.partition(b"\n")[2]
    message = message_from_bytes(raw, policy=policy.compat32)
    text = f"{_subject(message)}\n{_body(message)}"
    return " ".join(_ADDRESS.sub("ADDRESS", _LINK.sub("LINK", text)).split())


def _subject(message: Message) -> str:
    """The decoded subject without the tags of lists and the marks of replies."""
    value = str(message.get("Subject") or "")
    with contextlib.suppress(LookupError, ValueError):
        value = str(make_header(decode_header(value)))
    while found := _LIST_TAG.match(value):
        value = value[found.end() :]
    return value


def _body(message: Message) -> str:
    """The plain parts, or the stripped html ones where no plain part has words; cut at the list's footer."""
    parts = [part for part in message.walk() if part.get_content_maintype() == "text" and not part.get_filename()]
    plain = "\n".join(_decode(part) for part in parts if part.get_content_subtype() != "html")
    text = plain if plain.strip() else "\n".join(_decode(part) for part in parts if part.get_content_subtype() == "html")
    lines = [line.strip() for line in text.splitlines()]
    for i, line in enumerate(lines):
        if _RULE.fullmatch(line) and _FOOTER.search(" ".join(lines[i : i + 4])):
            lines = lines[:i]
            break
    return "\n".join(line for line in lines if not _MARK.match(line))


def _decode(part: Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    try:
        text = payload.decode(str(part.get_content_charset("utf-8")))
    except (LookupError, ValueError):
        text = payload.decode("latin-1")
    return strip(text) if _HTML.search(text) else text  # many a spam sends html and calls it plain


class _Visible(HTMLParser):
    """Collects what a browser would show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in ("script", "style", "title")
        self.texts += ["\n"] * (tag in ("br", "p", "tr", "div", "li"))

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in ("script", "style", "title")))

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.texts.append(data)


def strip(html: str) -> str:
    """The visible text of an html page, blocks on lines of their own."""
    page = _Visible()
    page.feed(html)
    page.close()
    return "".join(page.texts)
