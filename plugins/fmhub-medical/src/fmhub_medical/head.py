"""What is found in a picture or a scan: a label, several, or where in the slices a lesion may be, with a heat map."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fmhub.heads import Classification, MultiLabel

if TYPE_CHECKING:
    import numpy as np

    from fmhub.recipe import Recipe
    from fmhub.task import Known

NOT_A_DEVICE = "Research use only, not a medical device"
MOST = 5
"""Places that are named of a scan, the most suspicious first."""
PANELS = 6
"""Slices that are drawn of one."""


class Warned:
    """A head whose record, report and predictions say what it is not."""

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"{NOT_A_DEVICE}.",)


@dataclass(frozen=True)
class Outcome(Warned, Classification):
    """One label out of several."""


@dataclass(frozen=True)
class Several(Warned, MultiLabel):
    """Several labels at once."""


@dataclass(frozen=True)
class Findings(Warned, Classification):
    """A label out of several; several at once, where the training targets are lists; of a scan, what is in each of its tiles."""

    becomes: ClassVar[tuple[type, ...]] = (Several,)

    def fit(self, known: Known, recipe: Recipe) -> Classification | Several:  # type: ignore[override]
        """A copy that knows its labels; for lists of labels `Several`."""
        import pyarrow as pa

        if pa.types.is_list(known.train.column("target").type):
            return Several(labels=self.labels, reads=self.reads).fit(known, recipe)
        return super().fit(known, recipe)

    def joined(self, columns: dict[str, list[Any]], windows: np.ndarray, count: int) -> dict[str, list[Any]]:
        """One answer a row: that of its one picture, or of a scan that of its most suspicious tile.

        Of a scan `findings` are the places that stand out, {slice, box in mm from the slice's corner, score}, and `heat` is
        {slice: the probability of the second label, rows of squares of `step` pixels; -1 outside the body}.
        """
        import numpy as np

        made: dict[str, list[Any]] = {name: [] for name in ("prediction", "scores", "readable", "findings", "heat")}
        scores = np.array([np.asarray(row, np.float64) for row in columns["scores"]])
        for row in range(count):
            mine = np.flatnonzero(windows[:, 0] == row)
            best = int(mine[scores[mine, -1].argmax()])
            whole = windows[best, 1] < 0
            findings = [] if whole else _standing_out(scores[mine, -1], windows[mine])
            made["prediction"].append(columns["prediction"][best])
            made["scores"].append(columns["scores"][best])
            made["findings"].append(findings)
            made["heat"].append(None if whole else _heat(scores[mine, -1], windows[mine]))
            made["readable"].append(columns["prediction"][best] if whole else _words(columns["prediction"][best], findings))
        return made

    def painted(self, row: Mapping[str, Any], source: Any) -> bytes:
        """A PNG of the slices that stand out, with the heat map over them; of a picture that is no scan, the picture with its label."""
        from PIL import Image, ImageDraw

        from fmhub_medical import tiles
        from fmhub_medical.stem import as_picture, scan_of

        if row.get("heat") is None:
            from fmhub.stems import pictures

            image = pictures.whole(as_picture(source, "The picture"), "The picture")
            image = image.resize([side * max(1, round(320 / max(image.size))) for side in image.size])
            return _framed([(image, str(row["prediction"]))])
        scan = scan_of(source, "The scan")
        assert scan is not None
        grey, _ = tiles.flat(scan)
        chosen = sorted(row["heat"], key=lambda number: -max(max(line) for line in row["heat"][number]["rows"]))[:PANELS]
        panels = []
        for number in sorted(chosen, key=int):
            heat = row["heat"][number]
            panel = tinted(grey[int(number)], heat["rows"], heat["step"])
            draw = ImageDraw.Draw(panel)
            for one in row["findings"]:
                if str(one["slice"]) == str(number):
                    draw.rectangle([edge / tiles.PIXEL * SCALE for edge in one["box"]], outline="#ffe119", width=2)
            panels.append((panel, f"slice {number}, highest {max(max(line) for line in heat['rows']):.2f}"))
        assert isinstance(panels[0][0], Image.Image)
        return _framed(panels)


SCALE = 2
"""A drawn slice is so many times as large as it is at .8 mm."""


def tinted(grey: np.ndarray, heat: list[list[float]], step: int) -> Any:
    """A slice (rows, columns) in grey with squares of `step` pixels in red, the stronger the likelier, clear below a quarter."""
    import numpy as np
    from PIL import Image

    base = np.repeat(np.repeat(grey, SCALE, 0), SCALE, 1).astype(np.float32)
    strength = np.clip((np.array(heat, np.float32) - 0.25) / 0.75, 0, 1) * 0.6
    small = Image.fromarray((255 * strength).astype(np.uint8)).resize(
        (strength.shape[1] * step * SCALE, strength.shape[0] * step * SCALE), Image.Resampling.NEAREST
    )
    alpha = np.zeros(base.shape, np.float32)
    part = np.asarray(small, np.float32)[: base.shape[0], : base.shape[1]] / 255
    alpha[: part.shape[0], : part.shape[1]] = part
    red = np.array([230, 25, 75], np.float32)
    mixed = base[..., None] * (1 - alpha[..., None]) + red * alpha[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8))


def _heat(scores: np.ndarray, windows: np.ndarray) -> dict[str, Any]:
    """The mean over the tiles that cover a square of half a tile."""
    import numpy as np

    from fmhub_medical.tiles import TILE

    step, made = TILE // 2, {}
    for number in np.unique(windows[:, 1]):
        wide, high = windows[windows[:, 1] == number][0, 6:8]
        total, times = (np.zeros((-(-high // step), -(-wide // step))) for _ in range(2))
        for score, (left, top) in zip(scores[windows[:, 1] == number], windows[windows[:, 1] == number][:, 2:4], strict=True):
            place = (slice(top // step, top // step + 2), slice(left // step, left // step + 2))
            total[place] += score
            times[place] += 1
        mean = np.divide(total, times, out=np.full(total.shape, -1.0), where=times > 0)
        made[str(number)] = {"step": step, "rows": mean.round(4).tolist()}
    return made


def _standing_out(scores: np.ndarray, windows: np.ndarray) -> list[dict[str, Any]]:
    """The tiles of at least one half, best first, without those that overlap a better one of their slice."""
    import numpy as np

    from fmhub_medical.tiles import PIXEL, TILE

    found: list[dict[str, Any]] = []
    kept: list[np.ndarray] = []
    for place in np.argsort(-scores, kind="stable"):
        one = windows[place]
        if scores[place] < 0.5 or len(found) == MOST:
            break
        if any(other[1] == one[1] and abs(other[2:4] - one[2:4]).max() < TILE for other in kept):
            continue
        kept.append(one)
        box = [round(float(edge) * PIXEL, 1) for edge in one[2:6]]
        found.append({"slice": int(one[1]), "box": box, "score": round(float(scores[place]), 4)})
    return found


def _words(label: str, findings: list[dict[str, Any]]) -> str:
    places = ", ".join(f"slice {one['slice']} at {one['box'][0]:g},{one['box'][1]:g} mm ({one['score']:.2f})" for one in findings)
    return f"{label}: {places or 'nothing stands out'}. {NOT_A_DEVICE}."


def _framed(panels: list[tuple[Any, str]]) -> bytes:
    """Pictures side by side, three in a row, each with words below it, and at the bottom what this is not."""
    from PIL import Image, ImageDraw, ImageFont

    font, line = ImageFont.load_default(14), 22
    wide, high = (max(panel.size[axis] for panel, _ in panels) for axis in (0, 1))
    across = min(3, len(panels))
    sheet = Image.new("RGB", (max(320, across * (wide + 8)), -(-len(panels) // across) * (high + line) + line), "black")
    draw = ImageDraw.Draw(sheet)
    for place, (panel, words) in enumerate(panels):
        left, top = place % across * (wide + 8), place // across * (high + line)
        sheet.paste(panel, (left, top))
        draw.text((left + 2, top + high + 2), words, fill="white", font=font)
    draw.text((2, sheet.height - line + 2), f"{NOT_A_DEVICE}.", fill="#ffe119", font=font)
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()
