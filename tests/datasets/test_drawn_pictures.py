"""What a camera shows of a person."""

from dataclasses import replace

import numpy as np
import pytest

from tripletlib.datasets.drawn.identities import Identity
from tripletlib.datasets.drawn.pictures import Framing, draw_person
from tripletlib.datasets.drawn.streets import Camera


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera.draw(0, 2, np.random.default_rng(0))


@pytest.fixture(scope="module")
def who() -> Identity:
    return Identity.draw(np.random.default_rng(1), np.random.default_rng(2))


def test_a_backpack_shows_from_behind_more_than_from_the_front(camera: Camera, who: Identity):
    framing = Framing(0.9, 0.0, 0.0)
    changed = []
    for yaw in (0.0, np.pi):
        with_bag, without = (
            draw_person(
                replace(who, bag=bag, bag_colour=(176, 50, 56)),
                camera,
                np.random.default_rng(3),
                yaw,
                framing,
            )
            for bag in ("backpack", "none")
        )
        difference = np.abs(np.asarray(with_bag, float) - np.asarray(without, float)).max(axis=2)
        changed.append((difference > 30).sum())
    front, back = changed
    assert 0 < 2 * front < back


def test_nobody_is_a_piece_of_the_street(camera: Camera, who: Identity):
    framing = Framing(0.9, 0.0, 0.0)
    empty, seen = (
        np.asarray(draw_person(one, camera, np.random.default_rng(3), 0.0, framing), float)
        for one in (None, who)
    )
    assert empty.shape == seen.shape == (128, 64, 3)
    changed = np.abs(empty - seen).max(axis=2) > 30
    assert changed[:, 24:40].mean() > 3 * changed[:, :8].mean()  # the middle is the person's
