"""Embedded queries and gallery: from a run folder, or from the network that ships."""

import errno
import hashlib
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from tiny_experiment import TINY
from toy_retrieval import make_retrieval

from tripletlib.__main__ import main as program
from tripletlib.datasets import from_pictures
from tripletlib.evaluation import evaluate, evaluate_embeddings
from tripletlib.experiments import retrieval
from tripletlib.experiments.commands import ship
from tripletlib.experiments.experiment import Experiment
from tripletlib.experiments.retrieval import (
    WEIGHTS,
    load_pretrained,
    open_retrieval,
    save_pretrained,
)
from tripletlib.models import LuNet
from tripletlib.reranking import k_reciprocal
from tripletlib.runtime import REPOSITORY, ParameterError, run_folder
from tripletlib.training.run_folder import CheckpointError

SMALL = {"embedding_dim": 4, "width": 0.1, "image_size": [32, 16], "original": False, "step": 7}


@pytest.fixture
def trained(tmp_path):
    """A parameter file whose run has checkpoints of steps 4 and 6."""
    file = tmp_path / "03_tiny.yaml"
    file.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    Experiment.from_file(file).run(embed_afterwards=False)
    return file


def small_model():
    torch.manual_seed(0)
    return LuNet(4, 0.1, (32, 16)).eval()


def test_weights_come_back_in_half_precision(tmp_path):
    model, file = small_model(), tmp_path / "new" / "small.safetensors"
    save_pretrained(model, SMALL, file)
    loaded, description = load_pretrained(file)
    images = torch.rand(2, 3, 32, 16)
    assert description == SMALL
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(images), model(images), rtol=0.02, atol=0.02)
    halves = sum(parameter.numel() for parameter in model.parameters()) * 2
    assert halves < file.stat().st_size < 1.5 * halves + 20_000


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_weights_that_cannot_be_written_leave_the_earlier_file(tmp_path, monkeypatch, code):
    file = tmp_path / "weights.safetensors"
    save_pretrained(small_model(), SMALL, file)

    def write_a_part(_, unfinished, *__):
        unfinished.write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(retrieval, "save_file", write_a_part)
    with pytest.raises(OSError, match=r"weights\.safetensors could not be written.*name another"):
        save_pretrained(small_model(), SMALL, file)
    names = sorted(left.name for left in tmp_path.iterdir())
    assert names == ["weights.safetensors", "weights.safetensors.sha256"]
    assert load_pretrained(file)[1] == SMALL


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_pretrained(small_model(), SMALL, file)
    whole = file.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 40).astype(int):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"weights\.safetensors is damaged.*git checkout"):
            load_pretrained(file)
    file.write_bytes(whole)
    assert load_pretrained(file)[1] == SMALL


def test_what_ships_has_its_hash_beside_it():
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    written = WEIGHTS.with_name("lunet_synthetic.safetensors.sha256").read_text(encoding="utf-8")
    assert written == f"{digest}  lunet_synthetic.safetensors\n"


@pytest.mark.parametrize("damage", ["text", "cut", "foreign", "other network"])
def test_a_file_without_a_lunet_is_named(tmp_path, damage):
    file = tmp_path / "weights.safetensors"
    save_pretrained(small_model(), SMALL, file)
    (tmp_path / "weights.safetensors.sha256").unlink()
    if damage == "text":
        file.write_text("weights")
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "foreign":
        save_file({"a": torch.zeros(1)}, file)
    else:
        save_pretrained(small_model(), SMALL | {"width": 0.2}, file)  # its hash is right
    with pytest.raises(ValueError, match=r"weights\.safetensors does not hold a LuNet"):
        load_pretrained(file)
    with pytest.raises(FileNotFoundError):
        load_pretrained(tmp_path / "nothing.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(ValueError, match="is no file"):
        load_pretrained(tmp_path / "pipe.safetensors")


def test_the_command_makes_weights_of_a_finished_run(tmp_path, trained, capsys):
    output = tmp_path / "tiny.safetensors"
    assert ship([str(trained), "--output", str(output)]) == 0
    assert "step 6" in capsys.readouterr().out
    model, description = load_pretrained(output)
    assert (description["step"], description["trained_with"]) == (6, "03_tiny.yaml")
    assert model.image_size == (32, 16)


def test_the_command_without_a_run_says_what_to_do(tmp_path, capsys):
    assert program(["ship", str(tmp_path / "missing.yaml")]) == 2
    assert "missing.yaml" in capsys.readouterr().err


def test_a_run_is_opened_at_the_step_asked_for(trained):
    newest = open_retrieval(str(trained), progress="off")
    earlier = open_retrieval(str(trained), checkpoint_step=4, progress="off")
    assert (newest.query.step, earlier.query.step) == (6, 4)
    assert "6 steps" in newest.name
    assert "synthetic" in newest.name
    assert newest.query_images.shape == (len(newest.query), 3, 128, 64)
    assert newest.gallery_images.shape == (len(newest.gallery), 3, 128, 64)
    assert not np.allclose(newest.query.embeddings, earlier.query.embeddings)
    with pytest.raises(CheckpointError, match="steps there: 4, 6"):
        open_retrieval(str(trained), checkpoint_step=5, progress="off")


def test_a_new_picture_is_embedded_as_the_others_were(trained):
    opened = open_retrieval(str(trained), progress="off")
    data = Experiment.from_file(trained).open_dataset()
    assert opened.image_size == (32, 16)
    embeddings = opened.embed(data.query.images[:3])
    np.testing.assert_allclose(embeddings, opened.query.embeddings[:3], rtol=1e-4, atol=1e-5)
    one_view = opened.embed(data.query.images[:3], tta="none")  # the run's own are two
    assert np.abs(one_view - embeddings).max() > 1e-4


def test_pictures_without_labels_are_embedded_and_noticed_when_they_change(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(retrieval, "write_synthetic_market", None)  # nobody is drawn for this
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(("red", "lime", "blue", "white")):
        Image.new("RGB", (30 + number, 70), colour).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"half a picture")
    for trained_with in (str(trained), ""):
        opened = open_retrieval(trained_with, progress="off", pictures_root=folder)
        assert (opened.labelled, len(opened.query)) == (False, 0)
        assert opened.gallery.paths.tolist() == ["0.png", "1.png", "2.png", "3.png"]
        assert opened.gallery_images.shape == (4, 3, 128, 64)
        pictures = from_pictures(folder, opened.image_size, skip_unreadable=True, progress="off")
        expected = opened.embed(pictures.images)
        np.testing.assert_allclose(opened.gallery.embeddings, expected, rtol=1e-4, atol=1e-5)
    Image.new("RGB", (30, 70), "black").save(folder / "0.png")
    changed = open_retrieval(progress="off", pictures_root=folder)
    same = np.isclose(changed.gallery.embeddings, opened.gallery.embeddings, atol=1e-4).all(1)
    assert same.tolist() == [False, True, True, True]
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        open_retrieval(progress="off", pictures_root=tmp_path / "elsewhere")


def test_pictures_that_do_not_fit_the_embeddings_are_noticed():
    # Of unreadable files left out, some may be readable in the size that is shown, or meanwhile.
    toy = make_retrieval()
    with pytest.raises(ValueError, match=r"embeddings of gallery do not fit \d+ pictures"):
        replace(toy, gallery_images=toy.gallery_images[1:])


def test_an_unknown_parameter_file_is_named():
    with pytest.raises(
        ParameterError, match=r"no parameter file .*03_none\.yaml; .*03_synthetic_full"
    ):
        open_retrieval("03_none.yaml")
    with pytest.raises(ParameterError, match=r"there is no parameter file .*03_none/config\.yaml"):
        open_retrieval("03_none")


def test_weights_are_found_from_home_and_from_the_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save_pretrained(small_model(), SMALL, "~/small.safetensors").parent == tmp_path
    for file in ("~/small.safetensors", tmp_path / "small.safetensors"):
        assert load_pretrained(file)[1] == SMALL
    relative = "tripletlib/experiments/weights/lunet_synthetic.safetensors"
    monkeypatch.chdir(tmp_path)
    assert load_pretrained(relative)[1] == load_pretrained()[1]


def test_a_run_is_opened_by_its_name(trained):
    by_file, by_name = (open_retrieval(name, progress="off") for name in (trained, "tiny"))
    np.testing.assert_array_equal(by_file.query.embeddings, by_name.query.embeddings)
    run_folder("tiny").rename(run_folder("renamed"))
    renamed = open_retrieval("renamed", progress="off")
    np.testing.assert_array_equal(renamed.query.embeddings, by_name.query.embeddings)


def test_what_ships_finds_people_as_the_results_page_says(roots, monkeypatch):
    """Other versions of Pillow draw a little differently."""
    page = (REPOSITORY / "notebooks" / "results" / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| none (\|.*\|)$", page, re.MULTILINE)
    shown = [float(score) / 100 for score in re.findall(r"[\d.]+", row)]
    monkeypatch.setenv("TRIPLETLIB_DATA", roots)
    opened = open_retrieval(progress="off")
    query, gallery = opened.query, opened.gallery
    labels = query.pids, gallery.pids, query.camids, gallery.camids
    before = evaluate_embeddings(query, gallery)
    after = evaluate(k_reciprocal(query.embeddings, gallery.embeddings), *labels)
    found = [[s.map, s.map_market, s.cmc[0], s.minp] for s in (before, after)]
    for scores, expected in zip(found, (shown[:4], shown[4:]), strict=True):
        assert scores[:2] == pytest.approx(expected[:2], abs=0.02)
        assert scores[2:] == pytest.approx(expected[2:], abs=0.03)


def test_what_ships_is_small_and_opens_again_without_embedding(monkeypatch, tmp_path):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path))
    monkeypatch.setattr(retrieval, "SHIPPED_IDENTITIES", 6)
    assert WEIGHTS.stat().st_size < 3e6
    first = open_retrieval(progress="off")
    monkeypatch.setattr("tripletlib.experiments.experiment.embed", None)  # a call would fail
    again = open_retrieval(progress="off")
    assert len(first.query) == 3 * 6
    assert "synthetic" in first.name
    np.testing.assert_array_equal(first.gallery.embeddings, again.gallery.embeddings)
