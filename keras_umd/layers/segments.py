"""Rows that hold the tokens of several images, a segment for each: dense layers run once over a row."""

import itertools

from keras import ops


def split(tokens, lengths):
    """The segments of rows `(batch, n, dim)`, a list of tensors `(batch, length, dim)`; with `None`, the rows alone."""
    if lengths is None or len(lengths) == 1:
        return [tokens]
    return ops.split(tokens, list(itertools.accumulate(lengths[:-1])), axis=1)


def last(tokens, numbers, lengths=None):
    """The last `numbers` tokens: of rows, an integer; of each of their segments, a tuple; all of them for `None`."""
    if numbers is None:
        return tokens  # no slice to take a gradient of
    if lengths is None:
        return tokens[:, -numbers:]
    parts = zip(split(tokens, lengths), numbers, strict=True)
    return ops.concatenate([part[:, -number:] for part, number in parts], axis=1)


def spread(vectors, lengths=None):
    """Vectors of segments, `(batch, segments, dim)`, at each of their tokens, `(batch, n, dim)`.

    Without segments, `lengths` of `None`, the vectors themselves: one for all tokens of a row.
    """
    if lengths is None:
        return vectors
    batch_size, dim = ops.shape(vectors)[0], vectors.shape[-1]
    parts = [ops.broadcast_to(vectors[:, i : i + 1], (batch_size, n, dim)) for i, n in enumerate(lengths)]
    return ops.concatenate(parts, axis=1)


def of_segments(vectors, lengths):
    """Vectors in the order of the segments, `(batch * segments, dim)`, as `(batch, segments, dim)`.

    Without segments: `(batch, 1, dim)`.
    """
    return vectors[:, None] if lengths is None else ops.reshape(vectors, (-1, len(lengths), vectors.shape[-1]))


def as_images(tokens, lengths):
    """Rows of segments of one length, `(batch, n, dim)`, as rows of one image each, `(batch * segments, length, dim)`.

    In two steps: as one, devices that share the batch could take it for a change of what lies where.
    """
    tokens = ops.reshape(tokens, (-1, len(lengths), tokens.shape[1] // len(lengths), tokens.shape[2]))
    return ops.reshape(tokens, (-1, *tokens.shape[2:]))


def as_rows(tokens, lengths):
    """What `as_images` made of rows, as rows again."""
    tokens = ops.reshape(tokens, (-1, len(lengths), *tokens.shape[1:]))
    return ops.reshape(tokens, (-1, len(lengths) * tokens.shape[2], tokens.shape[3]))


def have_one_length(lengths, num_outputs=None):
    """Whether all segments have the same length, and as many outputs."""
    return lengths is not None and len({*lengths}) == 1 and len({*(num_outputs or lengths)}) == 1
