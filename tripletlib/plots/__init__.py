"""Every static figure, and the live pictures of a training."""

from tripletlib.plots.people import (
    Ranking,
    draw_batch,
    draw_contact_sheet,
    draw_network,
    draw_people,
    draw_ranking,
    draw_rankings,
    moved_by,
)
from tripletlib.plots.ranking import (
    compute_distances,
    draw_before_after,
    draw_hardest,
    draw_members,
    draw_values,
    save_ranking_pictures,
)
from tripletlib.plots.scores import (
    draw_cmc,
    draw_distances,
    draw_growth,
    draw_lists,
    draw_precision_recall,
    draw_precisions,
    draw_roc,
    draw_sweep,
)
from tripletlib.plots.style import (
    BLACK,
    BLUE,
    DARK_ORANGE,
    GREEN,
    GREY,
    ORANGE,
    PICTURE_DPI,
    PURPLE,
    SERIES,
    SKY,
    VERDICT_STYLES,
    VERMILION,
    literal,
    show_picture,
    use_notebook_style,
)
from tripletlib.plots.training import (
    EmbeddingFilm,
    LiveCurves,
    draw_embedding,
    draw_histories,
    draw_history,
    to_plane,
)

__all__ = [
    "BLACK", "BLUE", "DARK_ORANGE", "GREEN", "GREY", "ORANGE", "PICTURE_DPI",
    "PURPLE", "SERIES", "SKY", "VERDICT_STYLES", "VERMILION", "EmbeddingFilm", "LiveCurves",
    "Ranking", "compute_distances", "draw_batch", "draw_before_after", "draw_cmc",
    "draw_contact_sheet", "draw_distances", "draw_embedding", "draw_growth", "draw_hardest",
    "draw_histories", "draw_history", "draw_lists", "draw_members", "draw_network", "draw_people",
    "draw_precision_recall", "draw_precisions", "draw_ranking", "draw_rankings", "draw_roc",
    "draw_sweep", "draw_values", "literal", "moved_by", "save_ranking_pictures", "show_picture",
    "to_plane", "use_notebook_style",
]  # fmt: skip
