import keras
import numpy as np
import pytest

from keras_umd import recipes
from keras_umd.models.averages import WeightAverage
from keras_umd.models.compiling import undecayed_variables
from tests.conftest import array, assert_close

# The authors' names in the toy tree, and what the same kind of variable is called here.
OUR_NAMES = {"scale": "gamma", "cls": "cls_tokens", "image_mask_embedding": "mask_token", "embedding": "table"}


def toy_variables(values):
    names = [key.removeprefix("init.") for key in values if key.startswith("init.")]
    return {
        name: keras.Variable(values[f"init.{name}"], name=OUR_NAMES.get(name.split(".")[-1], name.split(".")[-1]))
        for name in names
    }


def test_weight_decay_skips_what_the_authors_skip(golden):
    values = golden("optim")
    variables = toy_variables(values)
    skipped = [id(variable) for variable in undecayed_variables(variables.values())]
    for name, variable in variables.items():
        assert (id(variable) not in skipped) == bool(values[f"decayed.{name}"]), name


def test_learning_rates_equal_the_authors(golden):
    values = golden("optim")
    schedule = recipes.pretraining_optimizer(total_steps=100, batch_size=1024)._learning_rate
    rates = [float(array(schedule(int(step)))) for step in values["lr.steps"]]
    np.testing.assert_allclose(rates, values["lr.values"], atol=1e-9)


def test_updates_equal_the_authors(golden):
    """Six updates of the toy tree: clipping, AdamW, decay and the moving average (tests/golden/README.md, optim)."""
    values = golden("optim")
    variables = toy_variables(values)

    class GoldenRates(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return keras.ops.take(keras.ops.convert_to_tensor(values["lr.big"].astype("float32")), step)

    optimizer = recipes.pretraining_optimizer(total_steps=100, batch_size=1024, learning_rate=GoldenRates())
    optimizer.exclude_from_weight_decay(var_list=undecayed_variables(variables.values()))
    average = WeightAverage(0.9, list(variables.values()))
    optimizer.build(list(variables.values()))
    for update in range(6):
        gradients = [keras.ops.convert_to_tensor(values[f"grad{update}.{name}"]) for name in variables]
        optimizer.apply(gradients, list(variables.values()))
        average.update()
        for name, variable in variables.items():
            expected = values.get(f"mu_float32.after{update + 1}.{name}_f64")
            if expected is not None:
                assert_close(variable, expected, 2e-5)
    for (name, variable), value in zip(variables.items(), average.values_for(variables.values()), strict=True):
        # Theirs starts at the initial weights; ours has none of them in it.
        theirs = values[f"mu_float32.ema_after6.{name}_f64"]
        initial = values[f"init.{name}"].astype("float64")
        assert_close(value, (theirs - 0.9**6 * initial) / (1 - 0.9**6), 2e-5)
        assert np.any(array(value) != array(variable))


def test_recipes_are_the_papers_tables():
    pretraining = recipes.pretraining_optimizer(total_steps=1000, batch_size=1024).get_config()
    finetuning = recipes.finetuning_optimizer(total_steps=1000, batch_size=256).get_config()
    common = {"beta_1": 0.9, "epsilon": 1e-8, "global_clipnorm": 1.0, "use_ema": False}
    for config, expected, peak in (
        (pretraining, {"beta_2": 0.95, "weight_decay": 0.05, "ema_decay": None}, 6e-4),
        (finetuning, {"beta_2": 0.999, "weight_decay": 0.0, "ema_decay": 0.9999}, 1.5e-4),
    ):
        for name, value in {**common, **expected}.items():
            assert config[name] == pytest.approx(value), name
        schedule = config["learning_rate"]["config"]
        assert schedule["warmup_target"] == pytest.approx(peak)
        assert (schedule["warmup_steps"], schedule["decay_steps"]) == (50, 950)


def test_optimizers_survive_serialisation():
    optimizer = recipes.finetuning_optimizer(100, 512, ema_decay=[0.9, 0.99])
    config = keras.saving.serialize_keras_object(optimizer)
    assert keras.saving.deserialize_keras_object(config).get_config() == optimizer.get_config()


@pytest.mark.host
def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="total_steps=0"):
        recipes.pretraining_optimizer(total_steps=0, batch_size=256)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_compile_settles_weight_decay_and_averages(small_model, precision):
    model = small_model(dtype=precision)
    model.compile(recipes.finetuning_optimizer(100, 256, ema_decay=[0.5, 0.9]))
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    decayed = {v.name for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert decayed == {"kernel", "gamma", "positions"}
    assert [average.decay for average in model.averages] == [0.5, 0.9]
    averages = list(model.averages)
    model.compile(recipes.finetuning_optimizer(100, 256, ema_decay=[0.5, 0.9]))
    assert all(new is old for new, old in zip(model.averages, averages, strict=True))


def test_what_the_user_excludes_from_weight_decay_stays_excluded(small_model):
    model = small_model()
    optimizer = recipes.pretraining_optimizer(100, 256)
    optimizer.exclude_from_weight_decay(var_names=["positions"])
    model.compile(optimizer)
    decayed = {v.name for v in model.trainable_variables if model.optimizer._use_weight_decay(v)}
    assert decayed == {"kernel", "gamma"}


@pytest.mark.host
def test_a_short_training_with_the_papers_tiny_rate_is_warned_of_with_the_remedy():
    with pytest.warns(
        UserWarning, match=r"peaks at 1.9e-05 for batch_size=32: .* total_steps=354.*base_learning_rate=8e-3"
    ):
        recipes.pretraining_optimizer(total_steps=354, batch_size=32)


@pytest.mark.host
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "total_steps, batch_size, options",
    [
        (354, 32, {"base_learning_rate": 8e-3}),
        (354, 32, {"base_learning_rate": 1.5e-4}),  # asked for
        (354, 32, {"learning_rate": 1e-3}),
        (354, 256, {}),
        (50_000, 32, {}),
    ],
)
def test_a_rate_of_ones_own_large_batches_and_long_trainings_are_not_warned_of(total_steps, batch_size, options):
    recipes.pretraining_optimizer(total_steps, batch_size, **options)
