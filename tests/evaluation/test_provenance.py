import dataclasses
import json
import os
import sys

import keras
import numpy as np
import pytest

from keras_umd.backend.devices import training_devices
from keras_umd.evaluation import Result, Table, mean_of
from keras_umd.evaluation.results import Row
from keras_umd.utils.atomic import DamagedFileError

pytestmark = pytest.mark.host


def result(value=3.0, metric="fid", **protocol):
    protocol = {"num_images": 1000, "reference": "ab" * 32, **protocol}
    return Result(metric, value, protocol, {"sampler": "DDIM", "num_steps": 250, "seed": 0})


def test_the_card_says_all_and_survives_a_file(tmp_path):
    made = dataclasses.replace(result(settings=(1, 2)), deviation=0.25)
    made.save(tmp_path / "card.json")
    assert Result.load(tmp_path / "card.json") == made
    card = json.loads((tmp_path / "card.json").read_text())
    assert card.pop("sha256") and card == made.card
    assert card["protocol"] == {"num_images": 1000, "reference": "ab" * 32, "settings": [1, 2]}
    assert card["versions"]["keras"] == keras.__version__
    assert card["versions"]["device"] == (training_devices()[0] or f"{os.cpu_count()} CPU cores")
    assert card["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_one_line_for_tables():
    line = dataclasses.replace(result(), deviation=0.25).line()
    assert line.startswith("fid 3 +- 0.25 | num_images: 1000, reference: abababababab, sampler: DDIM, num_steps: 250")
    assert "\n" not in line and keras.__version__ in line


def test_only_what_was_measured_alike_is_compared():
    assert result(3.5).minus(result(3.0)) == 0.5
    with pytest.raises(ValueError, match="num_images: 1000 and 5000"):
        result().minus(result(num_images=5000))
    with pytest.raises(ValueError, match="metric: fid and kid"):
        result().minus(result(metric="kid"))
    with pytest.raises(ValueError, match="resize: tf1 and None"):
        result(resize="tf1").minus(result())
    sampled_otherwise = Result("fid", 2.0, result().protocol, {"sampler": "Heun"}, versions={"keras": "4"})
    assert result().minus(sampled_otherwise) == 1.0


def test_a_table_prints_chooses_and_compares(tmp_path):
    table = Table([{"guidance": 1, "fid": result(3.0)}, {"guidance": 2, "fid": result(2.5)}])
    assert str(table).splitlines() == [
        "| guidance | fid |",
        "| -------- | --- |",
        "| 1        | 3   |",
        "| 2        | 2.5 |",
    ]
    assert repr(table) == str(table)
    assert repr(table.best("fid")) == "\n".join(str(table).splitlines()[:3])
    assert table.best("fid", smallest=True)["guidance"] == 2
    assert table.best("fid")["guidance"] == 1
    table.append({"guidance": 4, "note": "other samples", "fid": result(1.0, num_images=10)})
    with pytest.raises(ValueError, match="num_images"):
        table.best("fid")
    assert [card["value"] for card in table.cards()] == [3.0, 2.5, 1.0]
    table.save(tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text())[2] == {
        "guidance": 4,
        "note": "other samples",
        "fid": table[2]["fid"].card,
    }
    with pytest.raises(ValueError, match="column='kid'"):
        table.best("kid")


@pytest.mark.parametrize("damage", ["value", "metric", "protocol", "cut", "zero"])
def test_a_damaged_card_is_named(tmp_path, damage):
    path = tmp_path / "card.json"
    result(2.5).save(path)
    whole = path.read_text()
    path.write_text(
        {
            "value": whole.replace("2.5", "3.5"),
            "metric": whole.replace("metric", "metrik"),
            "protocol": whole.replace("num_images", "num_imagez"),
            "cut": whole[:-9],
            "zero": whole.replace("2.5", "\0\0\0"),
        }[damage]
    )
    with pytest.raises(DamagedFileError, match=r"card\.json.*measure again"):
        Result.load(path)


def test_cards_of_older_versions_load_without_a_checksum(tmp_path):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(result(2.5).card))
    assert Result.load(path) == result(2.5)
    path.write_text(json.dumps({"metric": "fid", "value": 2.0}))
    with pytest.raises(DamagedFileError, match=r"card\.json is no card"):
        Result.load(path)


def test_a_notebook_shows_tables_and_rows_as_html():
    table = Table([{"a<b": 1, "fid": result(3.0)}, {"a<b": 2}])
    header, first = "<tr><th>a&lt;b</th><th>fid</th></tr>", "<tr><td>1</td><td>3</td></tr>"
    assert table._repr_html_() == f"<table>{header}{first}<tr><td>2</td><td></td></tr></table>"
    assert Row(table[0])._repr_html_() == f"<table>{header}{first}</table>"


def test_several_seeds_become_one_result_with_their_deviation():
    values = [3.0, 3.2, 3.7]
    mean = mean_of([result(value) for value in values])
    assert mean.metric == "fid" and mean.protocol == result().protocol
    assert mean.value == pytest.approx(np.mean(values))
    assert mean.deviation == pytest.approx(np.sqrt(np.sum((np.array(values) - np.mean(values)) ** 2) / 2))
    assert mean.subject["mean_of"] == [result().subject] * 3
    # That of one seed is not known, whatever its own deviation is of.
    assert mean_of([dataclasses.replace(result(), deviation=0.5)]).deviation is None
    with pytest.raises(ValueError, match="num_images: 5000 and 1000"):
        mean_of([result(), result(num_images=5000)])
    with pytest.raises(ValueError, match=r"results=\[\]"):
        mean_of([])


def test_a_difference_counts_beyond_two_of_the_larger_deviation():
    base, near, far = (dataclasses.replace(result(value), deviation=0.1) for value in (3.0, 3.19, 3.21))
    assert not base.differs_from(near) and base.differs_from(far) and far.differs_from(base)
    vague = dataclasses.replace(far, deviation=0.2)
    assert not base.differs_from(vague) and not vague.differs_from(base)
    assert base.differs_from(vague, deviations=1)
    alone = dataclasses.replace(far, deviation=None)
    assert base.differs_from(alone) and alone.differs_from(base)
    with pytest.raises(ValueError, match="a deviation.*3.21.*3.21"):
        alone.differs_from(alone)
    with pytest.raises(ValueError, match="num_images: 1000 and 5000"):
        base.differs_from(result(num_images=5000))
