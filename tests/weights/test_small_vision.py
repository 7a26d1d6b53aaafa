import numpy as np
import pytest

from keras_umd.weights import load_small_vision
from tests.conftest import array


def test_a_file_equals_a_dictionary(golden_model, new_golden_model, golden_params, tmp_path):
    np.savez(tmp_path / "params.npz", **golden_params())
    model, expected = new_golden_model(), golden_model()
    for variable in model.trainable_variables:
        variable.assign(0 * array(variable))
    load_small_vision(model, tmp_path / "params.npz")
    for value, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        if value.dtype == "float32":
            np.testing.assert_array_equal(value, other)


def test_scanned_checkpoints_load(golden_model, new_golden_model, golden_params):
    params = golden_params()
    scanned = {}
    for name, value in params.items():
        stack, _, rest = name.partition(".Encoder1DBlock_")
        if not rest:
            scanned[name] = value
            continue
        index, _, rest = rest.partition(".")
        scanned.setdefault(f"{stack}.ScanCheckpointEncoder1DBlock_0.{rest}", {})[int(index)] = value
    scanned = {
        name: np.stack([value[i] for i in sorted(value)]) if isinstance(value, dict) else value
        for name, value in scanned.items()
    }
    assert len(scanned) < len(params)
    model, expected = new_golden_model(), golden_model()
    for variable in model.trainable_variables:
        variable.assign(0 * array(variable))
    load_small_vision(model, {name.replace(".", "/"): value for name, value in scanned.items()})
    for variable, other in zip(model.trainable_variables, expected.trainable_variables, strict=True):
        np.testing.assert_array_equal(array(variable), array(other))


def test_every_weight_is_set(golden_model):
    model = golden_model(labels=True)
    counts = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    from keras_umd.weights.small_vision import _targets

    assert sum(int(np.prod(variable.shape)) for variable, _, _ in _targets(model).values()) == counts


def test_misfits_are_all_named_and_nothing_is_assigned(golden_model, golden_params):
    model = golden_model()
    before = [array(v) for v in model.trainable_variables]
    params = {name: value + 1 for name, value in golden_params().items()}
    del params["cls"]
    params["extra.kernel"] = np.zeros(3)
    params["embedding.bias"] = np.zeros(5)
    with pytest.raises(ValueError) as error:
        load_small_vision(model, params)
    for expected in ("missing: cls", "unknown: extra.kernel", "shape of embedding.bias: (5,) instead of (48,)"):
        assert expected in str(error.value)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(array(variable), value)
