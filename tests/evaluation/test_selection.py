import json

import numpy as np
import pytest

import keras_umd.evaluation.selection as selection
from keras_umd import guidance, recipes
from keras_umd.evaluation import Reference, Result, select
from keras_umd.utils.atomic import DamagedFileError
from tests.evaluation import test_sample_scores

pytestmark = pytest.mark.host
network, real, reference = test_sample_scores.network, test_sample_scores.real, test_sample_scores.reference
SWEEP = {"guidance": (1.0, 2.0, 3.0), "intervals": (None, (0.0, 9.0)), "num_images": 100, "final_images": 1000}


class Planted:
    """In the place of `evaluate_generator`: distances with their least at one setting, and noise on few images."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def __call__(self, model, reference, network, num_images, *, weights, guidance, seed, **options):
        if len(self.calls) == self.fails_at:
            raise KeyboardInterrupt
        self.calls.append((weights, guidance.scale, getattr(guidance, "high", None), num_images, seed))
        distance = abs(guidance.scale - 2) + (0 if hasattr(guidance, "high") else 0.3) + 5 * abs(weights - 0.9)
        if num_images == 100 and guidance.scale == 3:
            distance -= 1.2  # few images mislead
        return {"fid": Result("fid", 1 + distance, {"num_images": num_images}, {"seed": seed})}


@pytest.fixture
def averaging(shared_model):
    model = shared_model(num_classes=3)
    model.track_average([0.5, 0.9])
    for average in model.averages:
        average.update()
    return model


@pytest.mark.parametrize("path", [None, "runs/selection.json"])
def test_the_best_is_found_although_few_images_mislead(averaging, reference, network, tmp_path, monkeypatch, path):
    planted = Planted()
    monkeypatch.setattr(selection, "evaluate_generator", planted)
    path = None if path is None else tmp_path / path
    found = select(averaging, reference, network, path=path, num_steps=7, seed=3, **SWEEP)
    assert len(planted.calls) == 2 * (1 + 2 + 2) + 3  # at a scale of 1, intervals count once
    assert len(set(planted.calls)) == len(planted.calls)
    assert {(count, seed) for *_, count, seed in planted.calls} == {(100, 3), (1000, 4)}
    chosen = found.sampling["guidance"]
    assert isinstance(chosen, guidance.Interval) and (chosen.scale, chosen.low, chosen.high) == (2.0, 0.0, 9.0)
    assert (found.sampling["weights"], found.sampling["num_steps"]) == (0.9, 7)
    assert found.result.value == 1.0 and found.result.protocol["num_images"] == 1000
    assert found.sweep.best("fid", smallest=True)["guidance"] == 3.0
    assert len(found.finals) == 3 and "0 to 9" in str(found)
    assert averaging.generate([0, 1], **{**found.sampling, "num_steps": 1}).shape == (2, 8, 8, 1)


@pytest.mark.parametrize("fails_at", [4, 11])  # in the sweep, among the finalists
def test_a_sweep_that_was_stopped_goes_on_and_repeats_nothing(
    averaging,
    reference,
    network,
    tmp_path,
    monkeypatch,
    fails_at,
):
    stopped, resumed, whole = Planted(fails_at), Planted(), Planted()
    path = tmp_path / "selection.json"
    for planted, place in ((stopped, path), (resumed, path), (whole, None)):
        monkeypatch.setattr(selection, "evaluate_generator", planted)
        try:
            found = select(averaging, reference, network, path=place, seed=3, **SWEEP)
        except KeyboardInterrupt:
            assert planted is stopped
    assert [*stopped.calls, *resumed.calls] == whole.calls
    assert found.result.value == 1.0
    before = len(resumed.calls)
    monkeypatch.setattr(selection, "evaluate_generator", resumed)
    assert str(select(averaging, reference, network, path=path, seed=3, **SWEEP).sweep) == str(found.sweep)
    assert len(resumed.calls) == before  # all is known
    averaging.averages[0].update()  # the same average: nothing has changed
    averaging.averages[0].averages[0].assign_add(np.ones(averaging.averages[0].averages[0].shape))
    select(averaging, reference, network, path=path, seed=3, **SWEEP)
    assert all(call[0] == 0.5 for call in resumed.calls[before:]) and len(resumed.calls) > before  # only what has


def test_a_file_of_another_judge_or_a_damaged_one_is_refused(
    averaging,
    reference,
    network,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(selection, "evaluate_generator", Planted())
    path = tmp_path / "selection.json"
    select(averaging, reference, network, path=path, **SWEEP)
    other = Reference(reference.mean + 1, reference.covariance, 60, network=reference.network)
    with pytest.raises(ValueError, match="judged otherwise.*reference: "):
        select(averaging, other, network, path=path, **SWEEP)
    values = json.loads(path.read_text())
    next(iter(values["results"].values()))["value"] = 0.0
    path.write_text(json.dumps(values))
    with pytest.raises(DamagedFileError, match=r"selection\.json"):
        select(averaging, reference, network, path=path, **SWEEP)


def test_real_images_are_judged_with_cards(averaging, reference, network, tmp_path):
    averaging.track_average([recipes.PowerProfile(0.1)])
    averaging.averages[0].update()
    few = {"num_images": 4, "final_images": 5, "num_finalists": 1, "num_steps": 1, "verbose": False}
    chosen = {"weights": ["raw", recipes.PowerProfile(0.1)], "guidance": (2.0,), "intervals": ((0.1, 9.0),)}
    path = tmp_path / "selection.json"
    found = select(averaging, reference, network, path=path, **chosen, **few)
    subject = found.result.card["subject"]
    assert subject["options"]["guidance"] == {"class": "Interval", "scale": 2.0, "low": 0.1, "high": 9.0}
    assert (subject["seed"], found.result.protocol["num_images"]) == (1, 5)
    again = select(averaging, reference, network, path=path, **chosen, **few)
    assert again.result.card == found.result.card
    with pytest.raises(TypeError, match="num_step"):
        select(averaging, reference, network, num_step=3)
    with pytest.raises(ValueError, match="intervals"):
        select(averaging, reference, network, intervals=((3.0, 1.0),))
