"""Small charts as inline SVG: 340 units wide, so that text stays readable on a phone. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from fmhub.report.markup import Markup, tag, text

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 12, 36
Points = Sequence[tuple[float, float]]
Span = tuple[float, float]


def lines(series: Mapping[str, Points], x: str, y: str, *, dots: bool = False) -> Markup:
    """One line a name; `dots` marks the points."""
    points = [point for one in series.values() for point in one]
    across, up = _span([p[0] for p in points]), _span([p[1] for p in points])
    place = _placer(across, up)
    drawn = []
    for number, (name, one) in enumerate(series.items()):
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*point) for point in one))
        drawn.append(tag("polyline", tag("title", name), points=path, class_=f"line c{number % 6}"))
        if dots or len(one) == 1:
            drawn += [
                tag("circle", tag("title", f"{name}: {a:g}, {b:.4g}"), **_at(place(a, b)), r=3, class_=f"dot c{number % 6}") for a, b in one
            ]
    return _chart(f"{y} against {x}", across, up, x, y, drawn)


def scatter(points: Points, x: str, y: str) -> Markup:
    """Dots on one scale both ways, with the line on which both are equal."""
    both = _span([value for point in points for value in point])
    place = _placer(both, both)
    (x1, y1), (x2, y2) = place(both[0], both[0]), place(both[1], both[1])
    drawn = [tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_="ideal")]
    drawn += [tag("circle", **_at(place(*point)), r=2, class_="dot c0 faint") for point in points]
    return _chart(f"{y} against {x}", both, both, x, y, drawn)


def front(points: Points, best: Points, x: str, y: str) -> Markup:
    """Dots, and a line through the `best` of them."""
    across, up = _span([p[0] for p in points]), _span([p[1] for p in points])
    place = _placer(across, up)
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*point) for point in best))
    drawn = [tag("polyline", points=path, class_="line c0")]
    for point in points:
        words = f"{y} {point[1]:.4g} at {point[0]:.6g} {x}"
        drawn.append(tag("circle", tag("title", words), **_at(place(*point)), r=3, class_="dot c0" if point in best else "dot other"))
    return _chart(f"{y} against {x}", across, up, x, y, drawn)


def bars(edges: Sequence[float], counts: Sequence[float], x: str, y: str) -> Markup:
    """A histogram: `counts[i]` lies between `edges[i]` and `edges[i + 1]`."""
    across, up = (edges[0], edges[-1]), (0.0, max(*counts, 1) * 1.05)
    place = _placer(across, up)
    drawn = []
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        (x1, y1), (x2, y2) = place(left, count), place(right, 0)
        shape = {"x": f"{x1 + 0.5:.1f}", "y": f"{y1:.1f}", "width": f"{max(x2 - x1 - 1, 0.5):.1f}", "height": f"{y2 - y1:.1f}"}
        drawn.append(tag("rect", tag("title", f"{left:.3g} to {right:.3g}: {count:g}"), **shape, class_="bar"))
    return _chart(f"{y} of {x}", across, up, x, y, drawn)


def reliability(points: Sequence[tuple[float, float, int]]) -> Markup:
    """How often a prediction is right (second) at a stated confidence (first); a dot's area grows with its count (third)."""
    unit = (0.0, 1.0)
    place = _placer(unit, unit)
    most = max((count for *_, count in points), default=1)
    (x1, y1), (x2, y2) = place(0, 0), place(1, 1)
    drawn = [tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_="ideal")]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(said, was) for said, was, _ in points))
    drawn.append(tag("polyline", points=path, class_="line c0"))
    for said, was, count in points:
        words = f"said {said:.2f}, right {was:.2f}, {count} examples"
        drawn.append(
            tag("circle", tag("title", words), **_at(place(said, was)), r=f"{2 + 5 * math.sqrt(count / most):.1f}", class_="dot c0")
        )
    return _chart("calibration", unit, unit, "confidence", "share right", drawn)


def interval(low: float, value: float, high: float, span: Span, *, marked: bool = False) -> Markup:
    """A point with its interval on a scale that its table's rows share; an SVG of 160 by 18."""

    def place(number: float) -> float:
        return 6 + 148 * (number - span[0]) / ((span[1] - span[0]) or 1)

    drawn = [
        tag("line", x1=6, x2=154, y1=9, y2=9, class_="grid"),
        tag("line", x1=f"{place(low):.1f}", x2=f"{place(high):.1f}", y1=9, y2=9, class_="whisker" + (" c0" if marked else "")),
        tag("circle", cx=f"{place(value):.1f}", cy=9, r=4, class_="dot " + ("c0" if marked else "other")),
    ]
    words = f"{value:.3f}, {low:.3f} to {high:.3f}"
    return tag("svg", *drawn, viewBox="0 0 160 18", width=160, height=18, class_="mini", role="img", aria_label=words)


def legend(names: Sequence[str]) -> Markup:
    """Which colour is which line; nothing for one alone."""
    if len(names) < 2:
        return Markup()
    return tag("p", *(tag("span", tag("i", class_=f"key c{n % 6}"), " ", name) for n, name in enumerate(names)), class_="legend")


def _span(values: Sequence[float]) -> Span:
    """The ends of an axis: the values' with a twentieth to spare."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    spare = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return low - spare, high + spare


def _placer(across: Span, up: Span) -> Callable[[float, float], tuple[float, float]]:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return lambda x, y: (
        LEFT + width * (x - across[0]) / (across[1] - across[0]),
        TOP + height * (1 - (y - up[0]) / (up[1] - up[0])),
    )


def _at(place: tuple[float, float]) -> dict[str, str]:
    return {"cx": f"{place[0]:.1f}", "cy": f"{place[1]:.1f}"}


def ticks(span: Span, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within `span`, about `most` of them."""
    width = span[1] - span[0]
    power = 10.0 ** math.floor(math.log10(width / most))
    step = next(power * size for size in (1, 2, 5, 10) if power * size * most >= width)
    first = math.ceil(span[0] / step - 1e-9)
    return [number * step for number in range(first, math.floor(span[1] / step + 1e-9) + 1)]


def _chart(title: str, across: Span, up: Span, x: str, y: str, drawn: Sequence[Markup]) -> Markup:
    place = _placer(across, up)
    frame = []
    for value in ticks(up):
        at = f"{place(across[0], value)[1]:.1f}"
        frame += [
            tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"),
            _label(LEFT - 5, float(at) + 4, f"{value:.6g}", "end"),
        ]
    for value in ticks(across):
        frame.append(_label(place(value, up[0])[0], HEIGHT - BOTTOM + 15, f"{value:.6g}", "middle"))
    frame += [_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x, "middle")]
    turned = f"translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"
    frame.append(tag("text", y, transform=turned, text_anchor="middle"))
    return tag("svg", tag("title", title), *frame, *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="chart", role="img")


def _label(x: float, y: float, words: str, anchor: str) -> Markup:
    return tag("text", text(words), x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
