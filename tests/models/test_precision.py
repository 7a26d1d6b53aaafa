"""What is float32 and what is not in a training step in bfloat16, read from JAX's program of it."""

import keras
import pytest

from keras_umd import UMD, recipes

SIZES = {"hidden_dim": 16, "num_heads": 2, "num_layers": 1, "decoder_layers": 1, "num_classes": 3}


def equations(jaxpr):
    """All of a program's, with those of the programs within it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in keras.tree.flatten(list(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def dtypes(variables):
    return [str(variable.aval.dtype) for variable in variables]


@pytest.fixture(scope="module")
def step():
    """A model in mixed bfloat16 with 8 images of 4x4 patches, and the equations of its step."""
    import jax

    model = UMD((8, 8, 1), 2, seed=0, dtype="mixed_bfloat16", **SIZES)
    model.compile(recipes.AdamW(1e-3, global_clipnorm=1.0, ema_decay=0.9))
    model.optimizer.build(model.trainable_variables)
    model.guard_steps()
    groups = [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables]
    groups.append(model.metrics_variables)
    state = tuple([jax.ShapeDtypeStruct(v.shape, v.dtype) for v in group] for group in groups)
    batch = jax.ShapeDtypeStruct((8, 8, 8, 1), "uint8"), jax.ShapeDtypeStruct((8,), "int32")
    return model, list(equations(jax.make_jaxpr(model.train_step)(state, batch).jaxpr))


@pytest.mark.backends("jax")
def test_products_take_bfloat16_and_logits_are_float32(step):
    products = [equation for equation in step[1] if equation.primitive.name == "dot_general"]
    # The products of attention are the only ones over images and heads, two axes of a batch.
    in_attention = [x for x in products if len(x.params["dimension_numbers"][1][0]) == 2]
    others = [x for x in products if len(x.params["dimension_numbers"][1][0]) < 2]
    assert len(others) > 50 and {tuple(dtypes(x.invars)) for x in others} == {("bfloat16", "bfloat16")}
    # For each product two gradients, which are those of float32 results.
    forward = [x for x in in_attention if dtypes(x.invars) == ["bfloat16", "bfloat16"]]
    assert forward and len(in_attention) == 3 * len(forward)
    assert all("bfloat16" in dtypes(x.invars) and dtypes(x.outvars) == ["float32"] for x in in_attention)


@pytest.mark.backends("jax")
def test_softmax_norms_and_losses_are_float32(step):
    names = {"exp", "reduce_max", "rsqrt", "sqrt", "scatter-add", "log"}
    seen = {name: [x for x in step[1] if x.primitive.name == name] for name in names}
    for name in ("exp", "reduce_max", "rsqrt", "scatter-add"):
        assert seen[name], name
    assert {dtype for found in seen.values() for x in found for dtype in dtypes(x.outvars) if "float" in dtype} == {
        "float32"
    }
    # What is summed in bfloat16 are gradients over axes along which a bias or modulation was repeated; means and
    # losses, over the last axis or over everything, are float32.
    sums = [x for x in step[1] if x.primitive.name == "reduce_sum" and dtypes(x.outvars) == ["bfloat16"]]
    for equation in sums:
        shape = equation.invars[0].aval.shape
        assert len(shape) - 1 not in equation.params["axes"] or shape[-1] == 1, shape


def test_weights_optimizer_and_averages_are_float32(small_model):
    model = small_model(dtype="mixed_bfloat16")
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9))
    model.optimizer.build(model.trainable_variables)
    kept = [*model.trainable_variables, *model.optimizer.variables, *model.averages[0].variables]
    found = {keras.backend.standardize_dtype(variable.dtype) for variable in kept}
    assert {dtype for dtype in found if "float" in dtype} == {"float32"}
    moments = [v for v in model.optimizer.variables if tuple(v.shape) == tuple(model.trainable_variables[0].shape)]
    assert len(moments) >= 2
