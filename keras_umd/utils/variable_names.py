"""Names by which the variables of two models, or of a model and a file, find each other."""

import re


def by_name(variables):
    """Keras variables by a name that is the same in every process.

    Keras numbers layers without a name through the whole process: `dense_7/kernel` of one model is `dense_2/kernel` of
    the next. Here the numbers count the siblings of one kind, in order.

    Args:
        variables: List of Keras variables.

    Returns:
        Dictionary from name to variable.

    Raises:
        ValueError: for two variables of one path, which nothing could tell apart.
    """
    named, renamed, counts = {}, {}, {}
    for variable in variables:
        path, own_path = "", ""
        for part in variable.path.split("/"):
            path = f"{path}/{part}"
            if path not in renamed:
                kind = re.sub(r"_\d+$", "", part)
                number = counts[own_path, kind] = counts.get((own_path, kind), -1) + 1
                renamed[path] = f"{own_path}/{kind}" + (f"_{number}" if number else "")
            own_path = renamed[path]
        if own_path[1:] in named:
            raise ValueError(
                f"Layers with weights need names of their own, to be saved. Received: two weights {variable.path!r}"
            )
        named[own_path[1:]] = variable
    return named
