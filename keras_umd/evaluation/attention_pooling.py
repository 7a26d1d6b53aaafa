"""Attention pooling: one vector from the tokens of an image, by learned queries."""

import keras
from keras import ops

from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_integers, check_positive_integers, check_tensors, require


@keras.saving.register_keras_serializable("keras_umd")
class AttentionPooling(BaseLayer):
    """Pools tokens by learned queries, as efficient probing does (Psomas et al., 2506.10178).

    `a = softmax(q X^T / sqrt(d))` for the m queries; the values `V = X W_v` are cut into m parts of d / m numbers, and
    query j weighs part j: `y = concat_j a_j V_j`. There is no matrix for keys, and each query has values of its own.

    Example:

    >>> evaluation.AttentionPooling(num_queries=4)(np.ones((2, 16, 32), "float32")).shape    # tokens of 16 patches
    (2, 32)

    Args:
        num_queries: Integer, a divisor of the tokens' width.
        seed: Integer of at least 0 or `None`, for the weights.

    Call arguments:
        tokens: Float tensor of shape `(batch, patches, dim)`.

    Returns:
        Float tensor of shape `(batch, dim)`.
    """

    def __init__(self, num_queries=32, seed=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(num_queries=num_queries)
        check_integers(0, optional=True, seed=seed)
        self.num_queries = int(num_queries)
        self.seed = seed

    def build(self, tokens_shape):
        dim = tokens_shape[-1]
        require(
            dim % self.num_queries == 0,
            "The width of the tokens must be divisible by `num_queries`.",
            f"num_queries={self.num_queries} and tokens of width {dim}",
        )
        second = None if self.seed is None else self.seed + 1
        self.queries = self.add_weight(
            shape=(self.num_queries, dim),
            initializer=keras.initializers.RandomNormal(stddev=0.02, seed=self.seed),
            name="queries",
        )
        self.value = self.add_weight(
            shape=(dim, dim), initializer=keras.initializers.GlorotUniform(seed=second), name="value"
        )

    def maps(self, tokens):
        """The attention of each query to the patches, `(batch, num_queries, patches)`; each map has the sum 1."""
        check_tensors(3, types=("float",), tokens=tokens)
        queries = ops.cast(self.queries, tokens.dtype)
        logits = ops.einsum("md,bpd->bmp", queries, tokens) / tokens.shape[-1] ** 0.5
        return ops.softmax(logits, axis=-1)

    def call(self, tokens):
        dim = tokens.shape[-1]
        values = ops.matmul(tokens, ops.cast(self.value, tokens.dtype))  # (batch, patches, dim)
        values = ops.reshape(values, (-1, tokens.shape[1], self.num_queries, dim // self.num_queries))
        pooled = ops.einsum("bmp,bpmk->bmk", self.maps(tokens), values)  # each query its own part
        return ops.reshape(pooled, (-1, dim))

    def compute_output_shape(self, tokens_shape):
        return (tokens_shape[0], tokens_shape[-1])
