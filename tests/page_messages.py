"""What a page sends to the widgets' Python side, for tests without a page."""


def choose(grid, key):
    """A picture of a grid is clicked."""
    grid._handle_custom_msg({"chosen": key}, [])


def hover(grid, key):
    """The mouse is moved onto a picture of a grid, or off it with an empty key."""
    grid._handle_custom_msg({"hovered": key}, [])


def send_file(upload, name, data):
    """A file is chosen."""
    upload._handle_custom_msg({"name": name}, [memoryview(data)])


def refuse_file(upload, name, size):
    """A file is chosen that is too large to be sent."""
    upload._handle_custom_msg({"refused": name, "bytes": size}, [])
