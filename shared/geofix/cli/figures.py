"""The figures of an ablation: accuracy against distance, and the errors on a map of the world."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from geofix.countries import country_rings
from geofix.geo import FloatArray

SHOWN = ("default", "classification", "retrieval, whole gallery, k 1", "SwC, 1 cell, k 10, eps 1 km")
"""Configurations with a line of their own; the others are thin and grey."""


def accuracy_figure(errors: Mapping[str, FloatArray], path: Path) -> None:
    """Share of the images within each distance, 0.1 to 20,000 km, a line a configuration; SVG."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    km = np.geomspace(0.1, 20_015, 400)
    for name, error in sorted(errors.items(), key=lambda item: item[0] in SHOWN):
        share = 100 * np.searchsorted(np.sort(error), km, "right") / len(error)
        if name in SHOWN:
            axes.plot(km, share, label=name, linewidth=2)
        else:
            axes.plot(km, share, color="0.8", linewidth=0.6)
    axes.set_xscale("log")
    axes.set(xlabel="distance, km", ylabel="images within, %", xlim=(0.1, 20_015), ylim=(0, 100))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(path, format="svg")


def error_map(truth: FloatArray, estimate: FloatArray, error_km: FloatArray, path: Path) -> None:
    """Where images were taken, coloured by how far off the default is; lines to the estimates that are over 750 km off.

    Args:
        truth: lat, lon in degrees, (n, 2).
        estimate: the same.
        error_km: (n,).
        path: an SVG.
    """
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.add_subplot()
    axes.add_collection(LineCollection([ring for _, ring in country_rings()], colors="0.7", linewidths=0.3))
    far = (error_km > 750) & (np.abs(truth[:, 1] - estimate[:, 1]) < 180)  # the others would cross the whole map
    lines = np.stack([truth[far][:, ::-1], estimate[far][:, ::-1]], axis=1)
    axes.add_collection(LineCollection(list(lines), colors="tab:red", linewidths=0.3, alpha=0.3))
    colours = axes.scatter(
        truth[:, 1], truth[:, 0], c=np.log10(np.maximum(error_km, 1)), s=6, cmap="viridis_r", vmin=0, vmax=4.3
    )
    bar = figure.colorbar(colours, ax=axes, ticks=range(5), shrink=0.8, label="error, km")
    bar.ax.set_yticklabels([f"{10**power:,}" for power in range(5)])
    axes.set(xlim=(-180, 180), ylim=(-90, 90), xlabel="longitude", ylabel="latitude", aspect="equal")
    figure.savefig(path, format="svg")
