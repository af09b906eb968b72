from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from toy_retrieval import calling

from tripletlib.embedding import EmbeddingTable
from tripletlib.experiments.retrieval import Retrieval
from tripletlib.plots import ranking as plotting_ranking

# pid and camera of each gallery picture, nearest to query 0 (person 1, camera 1) first
GALLERY = [(1, 1), (-1, 2), (0, 3), (1, 2), (2, 1), (1, 3), (3, 2), (2, 3)]
RIGHT_HONEST, JUNK_HONEST = [3, 5], [0, 1]
RIGHT_KIND, JUNK_KIND = [0, 3, 5], [1, 2]


def table(pids, camids, positions):
    paths = np.array([str(place) for place in range(len(pids))])
    embeddings = np.array(positions, np.float32)[:, None]
    return EmbeddingTable(embeddings, np.array(pids), np.array(camids), paths, 0, "none")


def pictures(count):
    """Picture k is all of intensity k."""
    shades = np.arange(count, dtype=np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (count, 3, 8, 4))


@pytest.fixture
def retrieval():
    pids, camids = zip(*GALLERY, strict=True)
    query = table([1, 2, 9], [1, 2, 1], [0, 3.6, 20])
    gallery = table(pids, camids, range(1, 1 + len(GALLERY)))
    shown = pictures(3), pictures(len(GALLERY))
    return Retrieval("toy", query, gallery, *shown, (8, 4), np.asarray, np.asarray, *shown)


@pytest.fixture
def row():
    return np.arange(1.0, 1 + len(GALLERY))


@pytest.mark.parametrize(
    ("protocol", "right", "junk"),
    [("market1501", RIGHT_HONEST, JUNK_HONEST), ("original", RIGHT_KIND, JUNK_KIND)],
)
def test_each_protocol_says_what_is_right_and_what_does_not_count(
    retrieval, row, protocol, right, junk
):
    ranked = plotting_ranking.rank(retrieval, 0, row, protocol)
    assert np.flatnonzero(ranked.verdicts == "right").tolist() == right
    assert np.flatnonzero(ranked.verdicts == "junk").tolist() == junk


def test_an_unknown_protocol_is_refused(retrieval, row):
    with pytest.raises(ValueError, match=r"market1501.*original.*'kind'"):
        plotting_ranking.rank(retrieval, 0, row, "kind")


def draw(retrieval, row, index=0, **options):
    """Query and answers of one row of pictures: their titles, captions and shades."""
    figure = plotting_ranking.draw_before_after(
        retrieval, index, {"before": np.tile(row, (3, 1))}, 4, **options
    )
    return [
        (ax.get_title(), ax.get_xlabel(), ax.images[0].get_array()[0, 0, 0]) for ax in figure.axes
    ]


def test_junk_is_left_out_and_the_next_place_moves_up(retrieval, row):
    query, *answers = draw(retrieval, row)
    assert query[0] == "before\nAP 50.0%"  # (1/2 + 2/4) / 2
    titles, captions, shades = zip(*answers, strict=True)
    assert titles == ("⊘ 1", "✓ 2", "✗ 3", "✓ 4")
    assert captions[1] == "cam. 2\n4"
    assert shades == (2, 3, 4, 5)


def test_the_originals_protocol_is_kinder(retrieval, row):
    query, *answers = draw(retrieval, row, protocol="original")
    titles, _, shades = zip(*answers, strict=True)
    assert query[0] == "before\nAP 91.7%"  # (1/1 + 2/2 + 3/4) / 3
    assert titles == ("✓ 1", "✓ 2", "✗ 3", "✓ 4")
    assert shades == (0, 3, 4, 5)


def test_a_query_that_nothing_answers_says_so(retrieval, row):
    assert draw(retrieval, row, index=2)[0][0] == "before\nno right answer"


def test_a_comparison_has_a_row_for_each_distance_and_names_the_protocol(retrieval):
    distances = {
        "before": np.tile(np.arange(8.0), (3, 1)),
        "after": np.tile(-np.arange(8.0), (3, 1)),
    }
    for protocol, sentence in plotting_ranking.PROTOCOLS.items():
        figure = plotting_ranking.draw_before_after(retrieval, 0, distances, 5, protocol)
        assert len(figure.axes) == 2 * (1 + 5)
        names = [figure.axes[place].get_title().split("\n")[0] for place in (0, 6)]
        assert names == ["before", "after"]
        assert "query 0: person 1, camera 1" in figure.get_suptitle()
        assert sentence in figure.get_suptitle()


def test_names_stand_where_numbers_are_made_of_words(retrieval):
    named = replace(retrieval, person=calling({1: "anna"}), camera=calling({1: "door", 2: "yard"}))
    distances = {"before": np.tile(np.arange(8.0), (3, 1))}
    figure = plotting_ranking.draw_before_after(named, 0, distances, 4)
    assert "query 0: person anna, camera door" in figure.get_suptitle()
    assert [ax.get_xlabel().split("\n")[0] for ax in figure.axes[1:]] == [
        "cam. 3", "cam. yard", "cam. door", "cam. 3",
    ]  # fmt: skip


def test_both_distances_have_a_row_for_each_query(retrieval):
    distances = plotting_ranking.compute_distances(retrieval, k1=2, k2=1, lambda_value=0.3)
    assert [table.shape for table in distances.values()] == [(3, 8)] * 2
    assert distances["before"][0] == pytest.approx(np.arange(1, 9))
    assert not np.allclose(distances["before"], distances["re-ranked"])


def test_one_call_saves_a_picture_for_each_random_query(retrieval, tmp_path):
    folder = tmp_path / "new" / "ranking"
    save = plotting_ranking.save_ranking_pictures
    distances = {"before": np.tile(np.arange(8.0), (3, 1))}
    files = save(retrieval, distances, folder, n_query=2, top_k=3, seed=1)
    assert sorted(folder.iterdir()) == files
    assert len(files) == 2
    for file in files:
        with Image.open(file) as picture:
            assert min(picture.size) > 100
    assert save(retrieval, distances, folder, n_query=2, top_k=3, seed=1) == files
    assert len(save(retrieval, distances, folder, 50, 3, "original")) == 3
    assert not plt.get_fignums()


def test_the_hardest_show_nearest_wrong_and_farthest_right(retrieval):
    distances = np.stack([np.arange(1.0, 9)] * 3)
    figure = plotting_ranking.draw_hardest(retrieval, distances, [0, 1], "title")
    titles = [f"{ax.get_title()}\n{ax.get_xlabel()}".strip() for ax in figure.axes]
    assert titles[:2] == ["query 0", "query 1"]
    assert titles[2] == "⊘ 1\n3"  # the distractor: the two before it are junk
    assert titles[4] == "✓ 4\n6"
    assert titles[5] == "✓ 7\n8"
    assert figure.axes[2].images[0].get_array()[0, 0, 0] == 2


def test_title_and_captions_do_not_overlap_whatever_the_style(retrieval, row):
    distances = {"before": np.tile(row, (3, 1)), "after": np.tile(-row, (3, 1))}
    with mpl.rc_context({"figure.constrained_layout.use": False}):
        figure = plotting_ranking.draw_before_after(retrieval, 0, distances, 5)
    figure.canvas.draw()
    captions = [ax.title.get_window_extent() for ax in figure.axes]
    pictures = [ax.get_window_extent() for ax in figure.axes]
    (title,) = figure.texts
    assert title.get_window_extent().y0 >= max(box.y1 for box in captions)
    assert pictures[0].y0 >= captions[6].y1  # the second row stays below the first
