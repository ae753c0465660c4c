"""The suite's one error, and how its messages name many things."""

from collections.abc import Sequence


class InputError(ValueError):
    """Bad input: a list, an image, a weight file, a result file or an option.

    The message says what was given, what was expected, and how to mend it.
    """


def refuse_undecoded(name: str) -> None:
    """Raise an InputError for a file's name that is not UTF-8: OpenCV would end the whole program, without a word."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name!a}: expected a name in UTF-8; rename the file or the folder") from error


def first_three(names: Sequence[str], more: str = "...") -> str:
    """The first three names, and a sign that there are more."""
    return ", ".join([*names[:3], *([more] if len(names) > 3 else [])])
