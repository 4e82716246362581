"""Text of others, on a person's terminal. Pure."""

from __future__ import annotations


def escaped(text: object) -> str:
    """The text with everything in it escaped that is not to be seen: controls, line ends, marks that turn it round.

    Whatever somebody else chose (a subject, an identity, a file's name) goes through here before it is printed, since a
    terminal obeys what is in it.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in str(text)
    )
