"""Names of classes, compared wherever two data sets meet: without one class, all behind it have other indices."""

from keras_umd.utils.checks import require


def check_same_classes(train, test, names=("train", "test")):
    """Raise a ValueError if the classes of two data sets have other indices, as far as both know their names.

    Classes that are only numbered ("0", "1", ..., as of arrays) are their indices, and agree with all others. Test data
    may lack the last classes, whose absence moves no index.

    Args:
        train, test: Objects of any kind; those with `class_names` are compared.
        names: Pair of strings, what to call them.
    """
    own, others = (getattr(dataset, "class_names", None) for dataset in (train, test))
    if not own or not others or _are_numbers(own) or _are_numbers(others):
        return
    own, others = list(own), list(others)
    if others == own[: len(others)]:
        return
    lacking, unknown = (
        [name for name in some if name not in set(all_names)] for some, all_names in ((own, others), (others, own))
    )
    texts = [
        f"{name} lacks {_first(lacks)}" for name, lacks in ((names[1], lacking), (names[0], unknown)) if lacks
    ] or [f"the same in another order: {_first(others)} in place of {_first(own)}"]
    require(
        False,
        f"The classes of `{names[0]}` and `{names[1]}` must have the same indices, or all labels mean something else; "
        f"make `{names[1]}` with class_names={names[0]}.class_names.",
        f"{len(own)} and {len(others)} classes: " + "; ".join(texts),
    )


def _are_numbers(names):
    return all(name == str(number) for number, name in enumerate(names))


def _first(names, count=5):
    return f"{names[:count]}" if len(names) <= count else f"{names[:count]} and {len(names) - count} more"
