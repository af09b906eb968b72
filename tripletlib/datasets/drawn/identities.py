"""A person as a handful of numbers: what stays the same from camera to camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Colour = tuple[int, int, int]  # red, green, blue, each 0 to 255
Rng = np.random.Generator


def _palette(codes: str) -> list[Colour]:
    return [(red, green, blue) for red, green, blue in map(bytes.fromhex, codes.split())]


# Few colours for many people: clothes alone do not tell them apart.
SKINS = _palette("fad6ba eabc96 cc966e 966446 684634")
HAIRS = _palette("261e1e 543626 8c5c34 d6ac64 963c24 aaaaac")
TOPS = _palette("eceae4 34363e 82888e 2c467a ba3638 427e5c")
BOTTOMS = _palette("30323a 3a5482 b09876 707478")
ACCENTS = _palette("eeece6 e8b642 cc423e 3c78ba 34343a 629e6c")
LEATHERS = _palette("3c302c 925a36 ece8e0 b03238 345486")
HAIR_STYLES = ("short", "bob", "long", "bun", "ponytail", "bald")
PATTERNS = ("plain", "stripes", "band", "logo", "yoke", "open")


def one_of(rng: Rng, choices: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of the choices at random, with probabilities in proportion to the weights."""
    p = None if weights is None else np.array(weights) / sum(weights)
    return choices[int(rng.choice(len(choices), p=p))]


def tint(colour: Colour, factor: float) -> Colour:
    """A colour made brighter, or darker if `factor` is below 1; each channel stays in 0 to 255."""
    red, green, blue = (max(0, min(255, round(c * factor))) for c in colour)
    return red, green, blue


@dataclass(frozen=True)
class Identity:
    """What a person keeps from camera to camera; `height` and `build` (width) average 1."""

    height: float
    build: float
    skin: Colour
    hair: Colour
    hair_style: str
    top: Colour
    sleeves: str
    pattern: str
    accent: Colour
    coat: bool
    bottom: Colour
    bottom_kind: str
    shoes: Colour
    bag: str
    bag_colour: Colour
    hat: str
    glasses: bool
    beard: bool

    @classmethod
    def draw(cls, own: Rng, outfit: Rng) -> "Identity":
        """A person at random: clothes from `outfit`, all else from `own`.

        Two people of one outfit differ only in hair, bag, shoes, skin, hat and size.
        """
        return cls(
            height=own.uniform(0.93, 1.03),
            build=own.uniform(0.88, 1.18),
            skin=one_of(own, SKINS, (4, 4, 2, 1, 1)),
            hair=one_of(own, HAIRS, (6, 4, 2, 1, 0.5, 0.5)),
            hair_style=one_of(own, HAIR_STYLES, (5, 2, 3, 1, 2, 0.3)),
            top=one_of(outfit, TOPS, (3, 3, 2, 2, 1.5, 1.5)),
            sleeves=one_of(outfit, ("long", "short", "none"), (4, 4, 1)),
            pattern=one_of(outfit, PATTERNS, (3, 2, 2, 2, 1, 2)),
            accent=one_of(outfit, ACCENTS),
            coat=bool(outfit.random() < 0.12),
            bottom=one_of(outfit, BOTTOMS, (4, 3, 2, 2)),
            bottom_kind=one_of(outfit, ("trousers", "shorts", "skirt"), (5, 2, 2)),
            shoes=one_of(own, LEATHERS, (5, 3, 3, 1, 1)),
            bag=one_of(own, ("none", "backpack", "handbag", "shoulder"), (4, 3, 2, 2)),
            bag_colour=one_of(own, LEATHERS, (5, 3, 2, 2, 2)),
            hat=one_of(own, ("none", "cap", "beanie", "sunhat"), (14, 1, 1, 1)),
            glasses=bool(own.random() < 0.2),
            beard=bool(own.random() < 0.15),
        )
