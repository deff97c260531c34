"""Make foreign text fit for a terminal: text of a file, protocol, record or exception."""

SHOWN = 200  # characters of a foreign text inside a message
LINE = 5000  # characters of a whole line: a path of 4,096 and the words around it


def printable(text: str, limit: int = SHOWN) -> str:
    r"""Escape what a terminal would act on or hide, and cut what is too long.

    Control characters (newlines and terminal escapes among them), marks that change the direction
    of text, and lone surrogates become escapes as in Python's source.

    >>> printable("a\nb \x1b[31mred")
    'a\\nb \\x1b[31mred'
    >>> printable("abcdef", limit=3)
    'abc... (6 characters)'
    """
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown}... ({len(text):,} characters)"


def printable_lines(text: str) -> str:
    """Make each line of a text printable, for where whole messages are printed."""
    return "\n".join(printable(line, LINE) for line in text.split("\n"))
