"""The policy that chooses patches: its loss, what learns from it, and that a model keeps it."""

import keras
import numpy as np
import pytest

from keras_umd import Corruption, Objective, View
from keras_umd.corruption import masks
from keras_umd.objectives import Reconstruction, SamplingPolicy
from keras_umd.objectives.targets import X0
from tests.conftest import QUICK, array


def policy(weight=1.0):
    keras.utils.set_random_seed(0)
    term = SamplingPolicy("clean", X0(), weight=weight, hidden_dim=8, num_heads=2)
    views = Corruption(views=[View("clean", mask=masks.Adaptive(0.75))])
    return {"corruption": views, "objective": Objective([Reconstruction("clean", X0()), term])}


# On JAX, where each operation is compiled: `adamae` in tests/methods/test_two_devices.py.
@pytest.mark.backends("tensorflow", "torch")
def test_the_loss_is_that_of_a_policy_and_trains_the_policy_alone(small_model, images, tmp_path):
    model = small_model(**policy())
    term = model.objective.terms[1]
    term.logits.kernel.assign(np.random.default_rng(0).normal(size=(8, 1)))
    x, y = model.make_views(images[:4], seed=0)
    outputs = model(x)
    loss = array(model.objective.image_losses(outputs, y)["clean_sampling_policy_loss"])
    target, masked = y["clean_sampling_policy_loss"], array(x["views"]["clean"]["masked"])
    errors = ((array(outputs["clean"]["x0"]) - array(target["errors"])) ** 2).mean(-1)
    logs = np.take_along_axis(array(term.log_probabilities(target["patches"])), masked, axis=1)
    np.testing.assert_allclose(loss, -(logs * errors).mean(1), rtol=1e-4)
    alone = small_model(**policy(weight=0.0))
    models = {"with": model, "without": alone}
    for variable, value in zip(alone.variables, map(array, model.variables), strict=True):
        variable.assign(value)
    for each in models.values():
        each.compile("sgd", **QUICK)
        each.fit(images[:8], batch_size=8, verbose=0, shuffle=False)
    for ours, theirs in zip(model.network_weights, alone.network_weights, strict=True):
        np.testing.assert_allclose(array(ours), array(theirs), atol=1e-6)
    pairs = zip(term.weights, alone.objective.terms[1].weights, strict=True)
    assert max(np.abs(array(a) - array(b)).max() for a, b in pairs) > 1e-6
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    chosen = [m.make_views(images[:4], seed=0)[0]["views"]["clean"]["masked"] for m in (model, loaded)]
    np.testing.assert_array_equal(*map(array, chosen))
