"""Formats counts in messages: "1 task", "2 tasks"."""

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Returns ``number`` with ``noun`` in singular or plural: "1 task", "2 tasks", "1,000 classes"."""
    ending = "" if number == 1 else "es" if noun.endswith("ss") else "s"
    return f"{number:,} {noun}{ending}"
