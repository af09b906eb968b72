"""Pictures as `data:` addresses that a web page can show, encoded once."""

import base64
import io
from collections.abc import Hashable

import numpy as np
from PIL import Image

_QUALITY = 85


class Thumbnails:
    """Encodes pictures when they are first shown and remembers the result.

    About 3 kB a picture of 128 x 64, so even all of Market-1501 stays below 100 MB.
    """

    def __init__(self) -> None:
        self._encoded: dict[Hashable, str] = {}

    def __call__(self, key: Hashable, image: np.ndarray) -> str:
        """The picture's address.

        Args:
            key: tells the picture apart; the same key always means the same picture.
            image: uint8 `[3, H, W]`.

        Example:
            >>> Thumbnails()("black", np.zeros((3, 8, 4), np.uint8))[:22]
            'data:image/jpeg;base64'
        """
        if key not in self._encoded:
            buffer = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=_QUALITY)
            text = base64.b64encode(buffer.getvalue()).decode()
            self._encoded[key] = f"data:image/jpeg;base64,{text}"
        return self._encoded[key]
