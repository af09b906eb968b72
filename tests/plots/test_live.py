import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from tripletlib.datasets.digits import LabelledImages
from tripletlib.models import MnistNet
from tripletlib.plots import EmbeddingFilm, LiveCurves, to_plane, training
from tripletlib.plots.style import TEN_COLOURS
from tripletlib.training.fit import EpochReport
from tripletlib.training.history import History


@pytest.fixture
def digits():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 6)
    images = generator.integers(0, 60, (24, 1, 28, 28), dtype=np.uint8)
    images[np.arange(24), 0, 6 * labels] = 255
    return LabelledImages(images, labels)


def film_epochs(film, epochs, embedding_dim=2):
    for epoch in range(1, epochs + 1):
        film(EpochReport(epoch, epochs, epoch, MnistNet(embedding_dim), History(), 0.0))


@pytest.mark.parametrize("embedding_dim", [2, 5])
def test_each_epoch_leaves_a_picture_points_and_an_accuracy(digits, tmp_path, embedding_dim):
    film = EmbeddingFilm(digits, digits, tmp_path)
    film_epochs(film, 3, embedding_dim)
    names = sorted(path.name for path in (tmp_path / "scatter").iterdir())
    assert names == ["epoch_001.png", "epoch_002.png", "epoch_003.png"]
    assert [points.shape for points in film.points] == [(24, 2)] * 3
    assert all(0 <= accuracy <= 1 for accuracy in film.accuracies)
    table = np.genfromtxt(tmp_path / "accuracy.csv", delimiter=",", names=True)
    assert table["epoch"].tolist() == table["step"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(table["accuracy"], film.accuracies)


def test_the_animation_plays_all_frames_and_rests_on_the_last(digits, tmp_path):
    film = EmbeddingFilm(digits, digits, tmp_path)
    film_epochs(film, 3)
    with Image.open(film.save_animation()) as animation:
        assert animation.n_frames == 4  # the picture for viewers that cannot play, and three
        resting = np.asarray(animation.convert("RGB"), dtype=float)
        animation.seek(3)
        last = np.asarray(animation.convert("RGB"), dtype=float)
    assert np.abs(resting - last).mean() < 1


@pytest.fixture
def closed(monkeypatch):
    """Limits and names of the axes of each figure that is closed."""
    seen, close = [], plt.close

    def note_and_close(figure):
        (ax,) = figure.axes
        seen.append((ax.axis(), ax.get_xlabel(), ax.get_ylabel()))
        close(figure)

    monkeypatch.setattr(training.plt, "close", note_and_close)
    return seen


def test_the_films_frames_have_one_scale(digits, tmp_path, closed):
    film = EmbeddingFilm(digits, digits, tmp_path)
    film_epochs(film, 2)
    film.points = [np.random.default_rng(0).normal(size=(24, 2)), 9 * film.points[1]]
    film.save_animation()
    (first, *_), (second, *_) = closed[-2:]
    assert first == pytest.approx(second)


@pytest.mark.parametrize(("embedding_dim", "name"), [(2, "coordinate"), (3, "principal axis")])
def test_the_film_says_what_its_axes_are(digits, tmp_path, closed, embedding_dim, name):
    film_epochs(EmbeddingFilm(digits, digits, tmp_path), 1, embedding_dim)
    assert closed[0][1:] == (f"first {name}", f"second {name}")


def test_the_animation_keeps_every_digits_colour(tmp_path):
    labels = np.repeat(np.arange(10), 3)
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 28, 28), dtype=np.uint8)
    digits = LabelledImages(images, labels)
    film = EmbeddingFilm(digits, digits, tmp_path)
    film_epochs(film, 2)
    with Image.open(film.save_animation()) as animation:
        animation.seek(2)
        shown = np.asarray(animation.convert("RGB"), dtype=int)
    with Image.open(tmp_path / "scatter" / "epoch_002.png") as frame:
        drawn = np.asarray(frame.convert("RGB"), dtype=int)
    for colour in (*TEN_COLOURS, "black", "white"):
        rgb = np.round(255 * np.array(to_rgb(colour)))
        pure = (drawn == rgb).all(axis=2)
        assert pure.any(), colour
        assert np.abs(shown[pure] - rgb).max() <= 4, colour
    assert (shown[(drawn == 255).all(axis=2)] == 255).all()  # beside the page it would be seen
    grey = np.ptp(drawn, axis=2) == 0
    assert np.abs(shown[grey] - drawn[grey]).max() <= 16


def test_a_second_film_removes_the_first_ones_frames(digits, tmp_path):
    film_epochs(EmbeddingFilm(digits, digits, tmp_path), 3)
    film_epochs(EmbeddingFilm(digits, digits, tmp_path), 1)
    assert len(list((tmp_path / "scatter").iterdir())) == 1


def test_animation_without_an_epoch_is_an_error(digits, tmp_path):
    with pytest.raises(ValueError, match="train for at least one epoch"):
        EmbeddingFilm(digits, digits, tmp_path).save_animation()


def test_two_dimensions_are_shown_as_they_are():
    points = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_array_equal(to_plane(points), points)


def test_more_dimensions_show_their_principal_plane():
    plane = np.random.default_rng(0).normal(size=(50, 2)) * [5, 2]
    lifted = np.pad(plane, ((0, 0), (0, 3)))
    shown = to_plane(lifted)
    np.testing.assert_allclose(
        np.linalg.norm(shown[:, None] - shown, axis=2),
        np.linalg.norm(plane[:, None] - plane, axis=2),
        atol=1e-9,
    )


def test_a_principal_plane_does_not_flip_between_epochs():
    embeddings = np.random.default_rng(0).normal(size=(50, 4)) * [5, 2, 1, 1]
    first = to_plane(embeddings)
    again = to_plane(embeddings * [-1, 1, 1, 1], previous=first)
    np.testing.assert_allclose(again, first, atol=1e-9)


def test_one_dimension_has_no_plane():
    with pytest.raises(ValueError, match="at least 2"):
        to_plane(np.zeros((4, 1)))


def test_frames_are_png(digits, tmp_path):
    film_epochs(EmbeddingFilm(digits, digits, tmp_path), 1)
    frame = (tmp_path / "scatter" / "epoch_001.png").read_bytes()
    assert Image.open(io.BytesIO(frame)).format == "PNG"


class Screen:
    def __init__(self):
        self.titles = []

    def display(self, figure, display_id):
        self.update(figure)
        return self

    def update(self, figure):
        self.titles.append(figure.get_suptitle())


def curves(steps):
    history = History()
    for step in range(1, steps + 1):
        history.record(
            step=step,
            learning_rate=1e-3,
            loss=1 / step,
            active_fraction=0.5,
            embeddings=torch.randn(6, 2),
        )
    return EpochReport(1, 2, steps, MnistNet(2), history, 0.0)


@pytest.mark.parametrize(("somebody_watches", "pictures"), [(True, 2), (False, 0)])
def test_live_curves_are_drawn_only_where_somebody_watches(monkeypatch, somebody_watches, pictures):
    screen = Screen()
    monkeypatch.setattr(training, "in_live_notebook", lambda: somebody_watches)
    monkeypatch.setattr("IPython.display.display", screen.display)
    callback = LiveCurves(margin=0.5)
    for steps in (3, 20, 120):  # of three steps there is no curve yet
        callback(curves(steps))
    assert len(screen.titles) == pictures
    assert all(title.startswith("epoch 1 of 2") for title in screen.titles)
    assert not plt.get_fignums()
