import pytest

from tripletlib.training.settings import TrainingSettings

PAPER = TrainingSettings(
    25_000, 32, 4, learning_rate=1e-3, decay_start=15_000, decay_end=25_000, beta1_in_decay=0.5
)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(1, 1e-3), (15_000, 1e-3), (17_500, 1e-3 * 0.001**0.25), (25_000, 1e-6), (30_000, 1e-6)],
)
def test_learning_rate_follows_equation_10(step, rate):
    assert PAPER.learning_rate_at(step) == pytest.approx(rate)


def test_beta1_changes_when_the_decay_begins():
    assert PAPER.beta1_at(15_000) == 0.9
    assert PAPER.beta1_at(15_001) == 0.5


def test_without_decay_nothing_changes():
    constant = TrainingSettings(100, 10, 2, beta1_in_decay=0.5)
    assert constant.learning_rate_at(100) == constant.learning_rate
    assert constant.beta1_at(100) == 0.9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"identities": 0}, "identities must be at least 1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"margin": "sfot"}, "margin must be a finite number >= 0 or 'soft', got 'sfot'"),
        ({"margin": -1.0}, "margin must be a finite number"),
        ({"metric": "manhattan"}, "metric must be one of"),
        ({"loss": "contrastive"}, "batch_all_nonzero"),
        ({"precision": "int8"}, "bfloat16"),
        ({"decay_start": 5}, "go together"),
        ({"decay_start": 9, "decay_end": 9}, "must lie before"),
    ],
)
def test_bad_settings_are_named(changed, message):
    good = {"steps": 10, "identities": 2, "images_per_identity": 2}
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**good | changed)
