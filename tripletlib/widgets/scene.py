"""Points in the plane and what batch hard makes of them, by the kernels of `tripletlib.losses`."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from tripletlib.losses import Margin, batch_hard, triplet_losses
from tripletlib.mining import mine_hardest

LEARNING_RATE = 1.0  # long, since the mean shares the gradient among all anchors


@dataclass(frozen=True)
class Scene:
    """Embeddings in the plane and the question that is asked about them."""

    points: np.ndarray  # float64 [N, 2]
    labels: np.ndarray  # identity of each point, [N], counted from 0
    anchor: int = 0  # index of the point that is looked at
    margin: Margin = 0.5  # as in `batch_hard`

    def names(self) -> list[str]:
        """A letter for the identity and a number for the point within it: A1, A2, B1 ..."""
        letters = [chr(ord("A") + label) for label in self.labels]
        return [f"{letter}{letters[: i + 1].count(letter)}" for i, letter in enumerate(letters)]


@dataclass(frozen=True)
class SceneLoss:
    """What batch hard says about a scene."""

    loss: float  # mean over all anchors
    active_fraction: float  # share of anchors whose hardest triplet is active
    anchor_loss: float  # of the chosen anchor's hardest triplet
    positive: int  # index of the anchor's farthest positive
    negative: int  # index of its nearest negative
    positive_distance: float
    negative_distance: float
    gradient: np.ndarray  # of the loss at every point, [N, 2]

    def summary(self) -> str:
        """The numbers in one line."""
        of_anchor = f"(this anchor {self.anchor_loss:.3f})"
        return f"loss {self.loss:.3f} {of_anchor} · active {self.active_fraction:.0%}"


def example_scene() -> Scene:
    """Nine points of three identities that stand in each other's way."""
    points = [(-2.0, 1.2), (-1.4, -0.9), (0.6, 0.9), (1.9, 1.6), (-0.3, 0.2), (2.2, -0.2)]
    points += [(-0.9, -2.0), (0.7, -1.6), (1.2, 0.0)]
    return Scene(points=np.array(points), labels=np.repeat([0, 1, 2], 3), anchor=2)


def scene_loss(scene: Scene) -> SceneLoss:
    """Applies batch hard to a scene, with the kernels of `tripletlib.losses`.

    Raises:
        ValueError: the anchor has no positive, or the points have no valid triplet.

    Example:
        >>> scene = Scene(np.array([[0.0, 0.0], [0.0, 2.0], [1.0, 0.0]]), np.array([0, 0, 1]))
        >>> scene_loss(scene).anchor_loss, scene_loss(scene).negative
        (1.5, 2)
    """
    points = torch.tensor(scene.points, dtype=torch.float64, requires_grad=True)  # [N, 2]
    labels = torch.as_tensor(scene.labels)
    result = batch_hard(points, labels, scene.margin)
    (gradient,) = torch.autograd.grad(result.loss, points)
    anchors, positives, negatives = mine_hardest(points, labels)  # [N'] each
    if scene.anchor not in anchors:
        raise ValueError(f"point {scene.anchor} is alone in its identity: it has no positive")
    row = anchors.tolist().index(scene.anchor)
    positive, negative = int(positives[row]), int(negatives[row])
    d_pos, d_neg = (points[scene.anchor] - points[[positive, negative]]).norm(dim=1).detach()
    return SceneLoss(
        loss=result.loss.item(),
        active_fraction=result.active_fraction.item(),
        anchor_loss=triplet_losses(d_pos - d_neg, scene.margin)[0].item(),
        positive=positive,
        negative=negative,
        positive_distance=d_pos.item(),
        negative_distance=d_neg.item(),
        gradient=gradient.numpy(),
    )


def gradient_step(scene: Scene, learning_rate: float = LEARNING_RATE) -> Scene:
    """The scene after one step of gradient descent on its points."""
    return replace(scene, points=scene.points - learning_rate * scene_loss(scene).gradient)
