"""Figures of a run: loss and dev scores over optimiser steps. Colours come from the app's theme, light or dark."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import plotly.io as pio
import streamlit  # noqa: F401 registers the template whose colours the browser replaces

MOST_POINTS = 800  # a line on a screen shows no more; a live chart is sent again at every beat
FEW = 50  # steps

Series = tuple[list[int], list[float]]


def series(history: Sequence[Mapping], name: str) -> Series:
    """Steps and values of one metric, in the order of the steps; values that are not finite are left out."""
    rows = [(row["step"], row["value"]) for row in history if row["name"] == name]
    kept = sorted((step, value) for step, value in rows if value is not None and math.isfinite(value))
    return [step for step, _ in kept], [value for _, value in kept]


def smooth(values: Sequence[float], *, weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start (Adam's bias correction), so that it begins at values[0]."""
    smoothed, average = [], 0.0
    for count, value in enumerate(values, start=1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - weight**count))
    return smoothed


def thin(points: Series, *, most: int = MOST_POINTS) -> Series:
    """At most about `most` points, evenly taken, the last one always among them."""
    steps, values = points
    stride = max(1, math.ceil(len(steps) / most))
    kept = sorted({*range(0, len(steps), stride), len(steps) - 1} if steps else ())
    return [steps[i] for i in kept], [values[i] for i in kept]


def loss_figure(history: Sequence[Mapping], *, steps: int | None = None) -> go.Figure | None:
    """Training loss, as it was at each step and smoothed; None before the first step."""
    at, values = series(history, "loss")
    if not at:
        return None
    figure, color = go.Figure(), _colors()[0]
    raw, calm = thin((at, values)), thin((at, smooth(values)))
    if len(at) < FEW:  # points say more than a line, and an average of a few steps says nothing
        figure.add_scatter(x=raw[0], y=raw[1], name="each step", mode="lines+markers", line={"color": color})
    else:
        figure.add_scatter(x=raw[0], y=raw[1], name="each step", opacity=0.35, mode="lines", line={"color": color})
        figure.add_scatter(x=calm[0], y=calm[1], name="smoothed", mode="lines", line={"color": color, "width": 2.5})
    figure.update_yaxes(title="Training loss (nats)", rangemode="tozero")
    return _framed(figure, steps=steps)


def score_figure(history: Sequence[Mapping], *, steps: int | None = None) -> go.Figure | None:
    """Scores on the dev split at each evaluation, 0 to 1, the first in bold; None before the first evaluation."""
    names = ("dev_f1", "dev_precision", "dev_recall")
    found = [(name, *series(history, name)) for name in names]
    if not any(at for _, at, _ in found):
        return None
    figure = go.Figure()
    for (name, at, values), color, dash, symbol in zip(found, _colors(), _DASHES, _SYMBOLS, strict=False):
        line = {"color": color, "dash": dash, "width": 2.5 if name == "dev_f1" else 1.5}
        label = name.removeprefix("dev_").replace("f1", "F1")
        figure.add_scatter(x=at, y=values, name=label, mode="lines+markers", line=line, marker={"symbol": symbol})
    figure.update_yaxes(title="Dev score (0 to 1)", range=[0, 1.02], tickformat=".1f")
    return _framed(figure, steps=steps)


_DASHES = ("solid", "dash", "dot")
_SYMBOLS = ("circle", "square", "diamond")


def _colors() -> Sequence[str]:
    # Placeholders; the browser puts the colours of the theme in use in their place.
    return pio.templates["streamlit"].layout.colorway


def _framed(figure: go.Figure, *, steps: int | None) -> go.Figure:
    last = max(max(trace.x) for trace in figure.data if len(trace.x))
    end = max(last, steps or 0)
    figure.update_xaxes(title="Optimiser step", range=[0, end * 1.02 + 0.5], tickformat=",d")
    if end <= 10:
        figure.update_xaxes(dtick=1)  # no ticks at half a step
    figure.update_layout(
        height=300,
        margin={"l": 8, "r": 8, "t": 32, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
        hovermode="x unified",
        uirevision="kept",  # zoom and hidden lines survive a live update
    )
    return figure
