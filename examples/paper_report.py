"""Report the results of examples/reproduce_paper.py so far: tables, pictures and cards, in the folder `report`.

    python examples/paper_report.py runs/paper

Every number is the mean of the finished seeds, with their standard deviation, and has a card in cards.json. The paper's
claims are checked: a difference within two standard deviations counts as undecided.
"""

import glob
import itertools
import json
import os
import re
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

from keras_umd import evaluation, plots

METHODS = ("MAE", "UMD", "UMD, one head", "UMD, modern", "MaskDiT", "DiT")
HEADS = ("eps", "x0", "both")
POOLINGS = {"cls": "class token", "mean": "mean of the patches"}
# The paper's claims: > is better (or cheaper); >= not worse; ~ close.
PROBE_CLAIMS = [
    "MAE > UMD",
    "UMD > MaskDiT",
    "UMD > DiT",
    "MaskDiT >= DiT",
    "x_0 loss only >= UMD",
    "eps loss only >= UMD",
    "UMD > low r_t0 (0.1)",
    "UMD > high m_t (0.75)",
    "m_t = 0 > UMD",
    "UMD > no AdaLN",
]
SAMPLE_CLAIMS = [
    "DiT ~ MaskDiT",
    "MaskDiT ~ UMD",
    "UMD > MAE",
    "DiT > MAE",
    "UMD > x_0 loss only",
    "UMD > eps loss only",
    "low r_t0 (0.1) >= UMD",
    "UMD > high m_t (0.75)",
    "m_t = 0 > UMD",
    "UMD > no AdaLN",
]
COST_CLAIMS = ["MAE > UMD", "UMD > MaskDiT", "MaskDiT > DiT"]


def report(folder):
    """Write the report on the results in `folder`, and print its tables."""
    about, settings, costs = (read(folder, f"{name}.json") for name in ("about", "settings", "costs"))
    scores = collect(folder, costs)
    titles, columns = columns_of(settings)
    methods = [name for name in METHODS if name in scores]
    ablations = ["UMD", *(name for name in costs if name in scores and name not in METHODS)]
    tables = {
        "Cost": rows(scores, [*methods, *ablations[1:]], columns["cost"]),
        "Features": rows(scores, [*methods, "random encoder", "raw pixels"], columns["features"]),
        "Samples": rows(scores, methods, columns["samples"]),
        "Ablations, features": rows(scores, ablations, columns["features"]),
        "Ablations, samples": rows(scores, ablations, columns["samples"]),
        "Does the paper's order appear?": answers(scores, settings, titles),
    }
    text = [f"## {title}\n\n{table}" for title, table in tables.items() if table]
    text = "\n\n".join([introduction(folder, about, settings, scores), *text])
    output = os.path.join(folder, "report")
    os.makedirs(output, exist_ok=True)
    with open(os.path.join(output, "tables.md"), "w") as file:
        file.write(text + "\n")
    with open(os.path.join(output, "cards.json"), "w") as file:
        cards = [{"of": name, **result.card} for name, results in scores.items() for result in results.values()]
        json.dump(cards, file, indent=1)
    guided = f"{settings['guidance_scale']:g}"
    for name, column in (
        ("accuracy", f"{settings['shots'][-1]}-shot accuracy, cls"),
        ("distance", f"frechet_distance, eps, {guided}"),
    ):
        shown = {setting: row for setting, row in scores.items() if {"ms", column} <= row.keys()}
        points = {n: (row["ms"].value, row[column].value, row[column].deviation) for n, row in shown.items()}
        if points:
            plots.save_image(os.path.join(output, f"{name}.png"), plots.scatter(points, "ms an image", titles[column]))
    for name, chosen in (("samples", methods), ("ablations", ablations)):
        picture = side_by_side(folder, chosen, guided)
        if picture is not None:
            plots.save_image(os.path.join(output, f"{name}.png"), picture)
    print(f"\n{text}\n\nTables, pictures and cards are in {output}")


def answers(scores, settings, titles):
    """The table of the paper's claims, each with the result here."""
    few_shot, guided = f"{settings['shots'][-1]}-shot accuracy", f"{settings['guidance_scale']:g}"
    asked = [(f"{few_shot}, {pooling}", PROBE_CLAIMS, False) for pooling in POOLINGS]
    kinds = itertools.product(HEADS, ("1", guided))
    asked += [(f"frechet_distance, {head}, {scale}", SAMPLE_CLAIMS, True) for head, scale in kinds]
    asked.append(("mflop", COST_CLAIMS, True))
    found = [
        judge(scores, column, titles[column], less_is_better, claim)
        for column, claims, less_is_better in asked
        for claim in claims
    ]
    return evaluation.Table(row for row in found if row is not None)


def columns_of(settings):
    """The titles of all columns, and the columns of each kind of table."""
    guided = f"{settings['guidance_scale']:g}"
    probes = [*(f"{shots}-shot" for shots in settings["shots"]), "20-NN", "linear"]
    features = {
        f"{probe} accuracy, {pooling}": f"{probe}, {title}" for pooling, title in POOLINGS.items() for probe in probes
    }
    metrics = {"frechet_distance": "distance", "fid": "FID", "classifier_score": "score", "inception_score": "IS"}
    samples = {
        f"{metric}, {head}, {scale}": f"{title}, {head}{'' if scale == '1' else ', guided'}"
        for (metric, title), head, scale in itertools.product(metrics.items(), HEADS, ("1", guided))
    }
    cost = {"ms": "ms an image", "mflop": "MFLOP an image"}
    return {**cost, **features, **samples}, {"cost": cost, "features": features, "samples": samples}


def collect(folder, costs):
    """Dictionary from settings and floors to their columns, each a `Result`, the mean of the seeds."""
    found = {}

    def add(name, row, about):
        for metric, card in row.items():
            if isinstance(card, dict):
                results = found.setdefault(name, {}).setdefault(f"{metric}, {about}", [])
                results.append(evaluation.Result(**card))

    for name in costs:
        for run in sorted(glob.glob(os.path.join(folder, slug(name), "seed*"))):
            for row in read(run, "probes.json"):
                add(name, row, row["pooling"])
            for row in read(run, "samples.json"):
                add(name, row, f"{row['head']}, {row['guidance_scale']:g}")
    for row in read(folder, "floors.json"):
        # Pixels have no pooling: they are compared with both.
        for pooling in [row["pooling"]] if "pooling" in row else POOLINGS:
            add(row["floor"], row, pooling)
    scores = {
        name: {column: evaluation.mean_of(results) for column, results in columns.items()}
        for name, columns in found.items()
    }
    for name in scores.keys() & costs.keys():
        for column, value in (("ms", 1e3 * costs[name]["seconds"]), ("mflop", costs[name]["flops"] / 1e6)):
            scores[name][column] = evaluation.Result(f"{column} an image", value, {}, {"setting": name})
    return scores


def rows(scores, names, columns):
    """The table of the settings that were run, with the columns that one of them has."""
    names = [name for name in names if name in scores]
    columns = {column: title for column, title in columns.items() if any(column in scores[name] for name in names)}
    return evaluation.Table(
        {"": name, **{title: scores[name].get(column) for column, title in columns.items()}} for name in names
    )


def judge(scores, column, title, less_is_better, claim):
    """A row that says whether a claim of the paper holds here; `None` where a part of it was not measured."""
    first, relation, second = re.fullmatch(r"(.+) (>=?|~) (.+)", claim).groups()
    if not all(column in scores.get(name, {}) for name in (first, second)):
        return None
    a, b = scores[first][column], scores[second][column]
    is_exact = column == "mflop"
    if a.deviation is None and b.deviation is None and not is_exact:
        return None
    is_better = (a.minus(b) < 0) if less_is_better else (a.minus(b) > 0)
    answer = "yes" if relation == "~" else "undecided"
    if is_exact or a.differs_from(b):
        answer = "yes" if is_better and relation != "~" else "no"
    return {"by": title, "the paper": claim, "here": f"{a}; {b}", "so": answer}


def side_by_side(folder, names, guided):
    """Guided samples of every setting beside real images, from either head and from both; `None` of none."""
    real, rows = load_picture(os.path.join(folder, "real.png")), {}
    for head in HEADS:
        paths = [os.path.join(folder, slug(name), "seed0", f"{head}_{guided}.png") for name in names]
        if any(map(os.path.exists, paths)):
            shown = [load_picture(path) if os.path.exists(path) else 0 * real + 255 for path in paths]
            rows[f"{head}, guided"] = [real, *shown]
    return plots.captioned(list(rows.values()), list(rows), ["real", *names]) if rows else None


def load_picture(path):
    return keras.utils.img_to_array(keras.utils.load_img(path)).astype("uint8")


def introduction(folder, about, settings, scores):
    versions = next(result.versions for results in scores.values() for result in results.values())
    real = evaluation.Result(**read(folder, "real.json")[0]["frechet_distance"])
    accuracy = read(folder, "classifier.json")["accuracy"]
    hours = sum(read(folder, "times.json").values()) / 3600
    return f"""`{about["command"]}`

{hours:.1f} hours; {", ".join(f"{name}: {value}" for name, value in versions.items())}.

{about["data"]}; {settings["pretraining_epochs"]} epochs without labels, {settings["finetuning_epochs"]} with.
Mean and standard deviation of the seeds. Distances are Fréchet distances of {settings["num_images"]} samples
({settings["num_steps"]} steps of DPM-Solver++; guided: at {settings["guidance_scale"]:g}) to the training images,
in the features of a classifier that is right on {accuracy:.3f} of the test images. They are not FID.
The test images have {real}."""


def read(folder, name):
    """JSON values, or an empty list where the file doesn't exist yet."""
    if not os.path.exists(os.path.join(folder, name)):
        return []
    with open(os.path.join(folder, name)) as file:
        return json.load(file)


def slug(name):
    """The name of a setting's folder."""
    return "".join(c if c.isalnum() else "_" for c in name.lower()).strip("_")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    report(sys.argv[1])
