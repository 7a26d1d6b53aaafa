"""The tokens of a decoder: first the class tokens, then visible patches, then masked ones."""

from keras import ops


def num_outputs_of(tokens, masked, read):
    """How many patches the last block has to return, the last of the sequence, for `tokens` of the visible ones."""
    if masked is None:
        return tokens.shape[1]
    return masked.shape[1] if reads_only_masked(read) else tokens.shape[1] + masked.shape[1]


def reads_only_masked(read):
    """Whether nothing is predicted of visible patches."""
    return set(read.values()) == {"masked"}


def behind_cls_tokens(representation, tokens):
    """The patches' tokens behind the class tokens, or behind the representation, which is their mean."""
    cls_tokens = representation[:, None] if len(representation.shape) == 2 else representation
    return ops.concatenate([ops.cast(cls_tokens, tokens.dtype), tokens], axis=1)
