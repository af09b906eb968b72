"""A lesson's edition for students as one that has written every prediction hands it in."""

import nbformat

from tripletlib.publishing.course import course_lesson


def answered(path, parameters):
    """The edition with its predictions written, and these values in its cell of parameters."""
    edition, count = course_lesson(nbformat.read(path, as_version=4))
    written = 0
    for cell in edition.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
        if "prediction" in tags:
            written += cell.source.count('""')
            cell.source = cell.source.replace('""', '"it falls"')
    assert written == count > 0
    return edition
