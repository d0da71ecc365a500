"""Why something is not done, as it is printed: one sentence."""


class Refused(Exception):  # noqa: N818 - what is printed, as one sentence
    """Why something is not done: what, the value seen, the remedy."""


class RolledBack(Refused):
    """A switch that failed and was taken back; both stand in the record already."""
