"""Examples that a new plugin starts with: made up, small, the same every time, and to be replaced by real ones."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import struct
import wave
import zlib
from collections.abc import Iterable, Sequence

Files = dict[str, bytes]
"""Path inside the package: content."""


def text() -> Files:
    """160 remarks with a label."""
    draw = random.Random(0)
    words = {"negative": ("bad", "awful", "sad"), "positive": ("good", "fine", "happy")}
    things = ("film", "book", "news", "day", "show", "meal", "song", "game", "trip", "story")
    made: dict[str, str] = {}
    while len(made) < 160:
        label = ("negative", "positive")[len(made) % 2]
        one, other = draw.sample(words[label], 2)
        made[
            f"The {draw.choice(things)} was {draw.choice(('very', 'rather', 'quite', 'so', 'really'))} {one}, and we found it {other}."
        ] = label
    rows = list(made.items())
    draw.shuffle(rows)
    return {"examples.csv": _csv(("text", "label"), rows)}


def image() -> Files:
    """Discs and squares, 60 of each, in folders named by their label."""
    draw = random.Random(0)
    files = {}
    for number in range(120):
        label = ("disc", "square")[number % 2]
        files[f"pictures/{label}/{number:03}.png"] = _png(_shape(label, draw))
    return files


def detection() -> Files:
    """80 pictures with one to three discs and squares, and where they are."""
    draw = random.Random(0)
    files, boxes = {}, {}
    for number in range(80):
        figures: list[Figure] = []
        for _ in range(draw.randrange(1, 4)):
            size = draw.uniform(7, 12)
            one = (draw.choice(("disc", "square")), draw.uniform(size, 64 - size), draw.uniform(size, 64 - size), size)
            if all(max(abs(one[1] - other[1]), abs(one[2] - other[2])) > size + other[3] for other in figures):
                figures.append(one)
        name = f"{number:03}.png"
        files[f"pictures/{name}"] = _png(_drawn(figures, 64, draw))
        boxes[name] = [
            {"box": [round(x - r, 1), round(y - r, 1), round(x + r, 1), round(y + r, 1)], "label": kind} for kind, x, y, r in figures
        ]
    return {**files, "pictures/boxes.json": (json.dumps(boxes, indent=1) + "\n").encode()}


def audio() -> Files:
    """Tones of half a second that rise or fall, 60 of each, in folders named by their label."""
    draw = random.Random(0)
    files = {}
    for number in range(120):
        label = ("falls", "rises")[number % 2]
        files[f"sounds/{label}/{number:03}.wav"] = _wav(_glide(label, draw))
    return files


def table() -> Files:
    """200 parcels; the far, heavy ones that go by road are late."""
    draw = random.Random(0)
    rows = []
    for _ in range(200):
        way, weight, distance = draw.choice(("road", "rail", "air")), round(draw.uniform(0.1, 30), 1), draw.randrange(5, 1500)
        slow = distance / 500 + weight / 15 + {"road": 1.0, "rail": 0.3, "air": -1.0}[way] + draw.gauss(0, 0.3)
        rows.append((way, weight, distance, draw.choice(("Monday", "Wednesday", "Friday")), ("no", "yes")[slow > 2.8]))
    return {"examples.csv": _csv(("way", "weight_kg", "distance_km", "day", "late"), rows)}


def sequence() -> Files:
    """What 100 people read, one after another: mostly on within a shelf."""
    draw = random.Random(0)
    shelves = [[f"{shelf} {volume}" for volume in range(1, 9)] for shelf in ("Roads", "Rivers", "Birds", "Bread", "Clocks")]
    rows = []
    for person in range(100):
        left = [list(shelf) for shelf in shelves]
        shelf, now = draw.choice(left), 1_600_000_000 + 1000 * person
        for _ in range(12):
            if not shelf or draw.random() < 0.15:
                shelf = draw.choice([one for one in left if one])
            title = shelf.pop(0)
            now += draw.choice((60, 3600, 86_400))
            rows.append((f"reader-{person}", title.lower().replace(" ", "-"), now, title))
    return {"events.csv": _csv(("user", "item", "time", "title"), rows)}


def custom() -> Files:
    """160 series of 24 readings; in half of them the level has jumped."""
    draw = random.Random(0)
    lines = []
    for number in range(160):
        label = ("calm", "alarm")[number % 2]
        jump = draw.uniform(3, 5) if label == "alarm" else 0.0
        level = draw.uniform(18, 22)
        series = [round(level + draw.gauss(0, 0.3) + jump * (step >= 12), 2) for step in range(24)]
        lines.append(json.dumps({"readings": series, "label": label}))
    draw.shuffle(lines)
    return {"examples.jsonl": ("\n".join(lines) + "\n").encode()}


def _csv(names: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([names, *rows])
    return file.getvalue().encode()


Figure = tuple[str, float, float, float]
"""Kind, centre from the left and from the top, radius or half a side, in pixels."""


def _shape(label: str, draw: random.Random) -> list[bytes]:
    """One figure of any place and size."""
    size, x, y = draw.uniform(6, 11), draw.uniform(12, 20), draw.uniform(12, 20)
    return _drawn([(label, x, y, size)], 32, draw)


def _drawn(figures: Sequence[Figure], side: int, draw: random.Random) -> list[bytes]:
    """`side` rows of as many pixels (red, green, blue): light figures on dark ground."""
    ground, ink = ([draw.randrange(low, low + 60) for _ in range(3)] for low in (0, 190))

    def inside(across: int, down: int) -> bool:
        return any(
            (math.hypot(across - x, down - y) if kind == "disc" else max(abs(across - x), abs(down - y))) < size
            for kind, x, y, size in figures
        )

    return [bytes(value for across in range(side) for value in (ink if inside(across, down) else ground)) for down in range(side)]


def _png(rows: Sequence[bytes]) -> bytes:
    """A PNG file of 8 bits a colour (RFC 2083)."""
    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    parts = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    chunks = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


RATE = 8000
"""Samples a second of the sounds."""


def _glide(label: str, draw: random.Random) -> list[float]:
    """Half a second, -1 to 1: a tone that ends higher or lower than it began, with some noise; its low and high end are drawn."""
    low, loud = draw.uniform(250, 600), draw.uniform(0.3, 0.7)
    ends = (low, low * draw.uniform(1.5, 2.5))
    begin, end = ends if label == "rises" else ends[::-1]
    count, angle, sound = RATE // 2, draw.uniform(0, 6), []
    for step in range(count):
        angle += 2 * math.pi * (begin + (end - begin) * step / count) / RATE
        sound.append(loud * math.sin(angle) + draw.uniform(-0.02, 0.02))
    return sound


def _wav(sound: Sequence[float]) -> bytes:
    """A WAV file of one channel of 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, RATE, len(sound), "NONE", "not compressed"))
        writer.writeframes(struct.pack(f"<{len(sound)}h", *(round(32767 * one) for one in sound)))
    return file.getvalue()
