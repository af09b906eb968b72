import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from tripletlib import plots
from tripletlib.models import LuNet


def pictures(count, size=(8, 4)):
    """Picture k is all of intensity k."""
    shades = np.arange(count, dtype=np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (count, 3, *size))


def test_a_contact_sheet_is_a_table_of_pictures():
    figure = plots.draw_contact_sheet(pictures(6), ["a", "b"], ["1", "2", "3"], "title")
    (ax,) = figure.axes
    sheet = ax.images[0].get_array()
    assert sheet.shape == (16, 12, 3)
    assert sheet[::8, ::4, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("identity", "camera")
    assert figure.get_suptitle() == "title"


def test_right_and_wrong_differ_by_mark_colour_and_frame():
    verdicts = ["right", "wrong", "right"]
    captions = ["here", "there", "far"]
    ranking = plots.Ranking(pictures(1)[0], pictures(3), verdicts, captions, "query 7")
    figure = plots.draw_rankings([ranking, ranking], "title")
    query, *found = figure.axes[:4]
    assert len(figure.axes) == 8
    assert query.get_title() == "query 7"
    assert [ax.get_title() for ax in found] == ["✓ 1", "✗ 2", "✓ 3"]
    assert [ax.get_xlabel() for ax in found] == ["here", "there", "far"]
    frames = [ax.spines["left"] for ax in found]
    for one in (frames[0].get_edgecolor(), frames[0].get_linestyle()):
        assert one in (frames[2].get_edgecolor(), frames[2].get_linestyle())
        assert one not in (frames[1].get_edgecolor(), frames[1].get_linestyle())


def test_junk_is_faded_and_has_no_rank():
    verdicts = ["junk", "right", "wrong"]
    ranking = plots.Ranking(pictures(1)[0], pictures(3), verdicts, "abc", "q")
    _, junk, right, wrong = plots.draw_rankings([ranking], "title").axes
    assert [ax.get_title() for ax in (junk, right, wrong)] == ["– junk", "✓ 1", "✗ 2"]
    assert [ax.get_xlabel() for ax in (junk, right, wrong)] == ["a", "b", "c"]
    assert junk.images[0].get_alpha() < right.images[0].get_alpha() == 1
    frames = {str(ax.spines["left"].get_linestyle()) for ax in (junk, right, wrong)}
    assert len(frames) == 3


def test_a_distractor_does_not_look_wrong():
    ranking = plots.Ranking(pictures(1)[0], pictures(2), ["distractor", "wrong"], "ab", "q")
    _, distractor, wrong = plots.draw_rankings([ranking], "title").axes
    assert [ax.get_title() for ax in (distractor, wrong)] == ["⊘ 1", "✗ 2"]
    lines = [str(ax.spines["left"].get_linestyle()) for ax in (distractor, wrong)]
    assert lines[0] != lines[1]


def test_a_shorter_ranking_leaves_its_last_places_empty():
    rankings = [
        plots.Ranking(pictures(1)[0], pictures(k), ["wrong"] * k, "abc"[:k], "q") for k in (3, 1)
    ]
    axes = plots.draw_rankings(rankings, "title").axes
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 1, 1, 1, 0, 0]


def test_ten_people_have_ten_marks_and_a_name_each(ax):
    pids = np.repeat(np.arange(20, 30), 3)
    points = np.random.default_rng(0).normal(size=(30, 2))
    plots.draw_people(ax, points, pids, "title")
    _, names = ax.get_legend_handles_labels()
    assert names == [str(pid) for pid in range(20, 30)]
    marks = {collection.get_paths()[0].vertices.tobytes() for collection in ax.collections}
    assert len(marks) == 10


NAMES = ["$HOME", "a$_$b", "$x^$", r"back\slash", "<b>&amp;"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_people_and_cameras_are_drawn_as_they_are(ax, name):
    """Matplotlib would take what stands between two dollar signs for a formula."""
    plain = plt.figure().text(0, 0, name, parse_math=False)
    sheet = plots.draw_contact_sheet(pictures(1), [name], [name], plots.literal(name))
    ranking = plots.Ranking(pictures(1)[0], pictures(1), ["right"], [name], name)
    query, found = plots.draw_rankings([ranking], plots.literal(name)).axes
    plots.draw_people(ax, np.zeros((1, 2)), np.array([7]), "title", {7: name}.get)
    texts = [*sheet.axes[0].get_xticklabels(), *sheet.axes[0].get_yticklabels(), query.title]
    texts += [found.xaxis.label, *ax.legend().get_texts(), *sheet.texts]
    for text in texts:
        text.set(fontproperties=plain.get_fontproperties(), rotation=0)
        width = text.get_window_extent(text.figure.canvas.get_renderer()).width / text.figure.dpi
        assert width == pytest.approx(plain.get_window_extent().width / plain.figure.dpi, abs=0.04)


def drawn_layers(model):
    """Kind and channels of each drawn layer, and the sizes of the maps that are written."""
    (ax,) = plots.draw_network(model, "title").axes
    kinds = {patch.get_facecolor(): patch.get_label() for patch in ax.get_legend().get_patches()}
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    texts = [text.get_text() for text in ax.texts]
    channels = [int(text) for text in texts if "×" not in text]
    found = [kinds.get(box.get_facecolor(), "image") for box in boxes]
    return list(zip(found, channels, strict=True)), [text for text in texts if "×" in text]


def test_the_papers_network_is_drawn_layer_by_layer():
    layers, sizes = drawn_layers(LuNet())
    assert layers[:2] == [("image", 3), ("convolution", 128)]
    assert [n for kind, n in layers if kind == "max-pooling"] == [128, 256, 256, 512, 512]
    assert [n for kind, n in layers if kind == "linear"] == [512, 128]
    assert [n for kind, n in layers if kind == "flatten"] == [1024]
    assert sum(kind == "residual block" for kind, _ in layers) == 12
    assert sizes == ["128×64", "64×32", "32×16", "16×8", "8×4", "4×2"]


@pytest.mark.parametrize("original", [False, True])
def test_drawing_leaves_the_network_as_it_was(original):
    model = LuNet(8, 0.125, (64, 32), original).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers, sizes = drawn_layers(model)
    assert layers[-1] == ("linear", 8)
    assert sizes[0] == "64×32"
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(layer._forward_hooks for layer in model.modules())


def test_a_networks_blocks_have_a_way_round_and_vectors_are_low():
    model = LuNet(8, 0.125, (64, 32))
    (ax,) = plots.draw_network(model, "title").axes
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    heights = [box.get_height() for box in boxes]
    kinds = [kind for kind, _ in drawn_layers(model)[0]]
    vectors = kinds.count("linear") + kinds.count("flatten")
    assert max(heights[-vectors:]) < min(heights[:-vectors])
    round_blocks = [line for line in ax.lines if len(line.get_xdata()) == 4]
    assert len(round_blocks) == kinds.count("residual block") > 0
    for line in round_blocks:
        xs, top = line.get_xdata(), max(line.get_ydata())
        inside = [box for box in boxes if xs[0] < box.get_x() < xs[-1]]
        assert len(inside) == 1
        assert top > inside[0].get_height() / 2
