"""An experiment on drawn pedestrians that trains in a second."""

TINY = {
    "run_name": "tiny",
    "dataset_root": "people",
    "synthetic_identities": 12,
    "image_height": 32,
    "image_width": 16,
    "embedding_dim": 4,
    "width": 0.03,
    "identities": 3,
    "images_per_identity": 2,
    "loss": "batch_hard",
    "margin": 0.5,
    "learning_rate": 0.001,
    "decay_start": 0,
    "augment": False,
    "steps": 6,
    "steps_per_epoch": 3,
    "checkpoint_every": 4,
    "resume": True,
    "precision": "float32",
    "tta": "flip",
}
