import pytest

from tripletlib.runtime import ParameterError
from tripletlib.training import TrainingSettings

PAPER = TrainingSettings(
    learning_rate=1e-3, decay_start=15_000, decay_end=25_000, beta1_in_decay=0.5
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
    constant = TrainingSettings(decay_start=0, beta1_in_decay=0.5)
    assert constant.learning_rate_at(100_000) == constant.learning_rate
    assert constant.beta1_at(100_000) == 0.9


def test_settings_cannot_be_changed_and_a_copy_is_checked():
    with pytest.raises(ValueError, match="frozen"):
        PAPER.steps = 5
    assert PAPER.replace(steps=5) == PAPER.replace(steps="5") != PAPER
    with pytest.raises(ParameterError, match="steps: 0 should be greater than or equal to 1"):
        PAPER.replace(steps=0)
