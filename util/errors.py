"""The suite's one error."""


class InputError(ValueError):
    """Bad input: a list, an image, a weight file, a result file or an option.

    The message says what was given, what was expected, and how to mend it.
    """
