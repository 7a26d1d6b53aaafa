"""results.json as markdown."""

TERA, GIGA = 1e12, 1e9


def tables(values):
    """All tables of a run, a string.

    Args:
        values: Dictionary, results.json.
    """
    parts = values["parts"]
    done = {name: outcome["result"] for name, outcome in parts.items() if outcome["status"] == "done"}
    sections = [_head(values, done), _rates(done), _steps(done), _plain(done), _sampling(done), _parity(done)]
    sections += [_kernels(done), _missing(parts)]
    return "\n\n".join(section for section in sections if section) + "\n"


def markdown(header, rows):
    """A table, a string; numbers are formatted before."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _number(value, form, scale=1.0):
    return "" if value is None else format(value / scale, form)


def _share(value):
    return _number(value, ".1%")


def _rate(done):
    return done.get("rates", {}).get("bfloat16_flops")


def _head(values, done):
    lines = [f"Begun {values.get('begun', '')}" + (", tiny sizes: no figures of a device" if _is_tiny(values) else "")]
    if "rates" in done:
        lines += ["", "```", done["rates"]["page"], "```"]
    return "\n".join(lines)


def _is_tiny(values):
    return bool(values.get("arguments", {}).get("tiny"))


def _rates(done):
    if "rates" not in done:
        return ""
    found, sheet = done["rates"], done["rates"].get("data_sheet") or {}
    rows = []
    for title, name, of_sheet, unit in (
        ("bfloat16 products, TFLOP/s", "bfloat16_flops", "bfloat16", TERA),
        ("float32 products as by default, TFLOP/s", "float32_flops", "float32", TERA),
        ("float32 products in full, TFLOP/s", "full_float32_flops", None, TERA),
        ("memory read and written, GB/s", "bandwidth", "bandwidth", GIGA),
    ):
        peak = sheet.get(of_sheet)
        share = None if peak is None else found[name] / peak
        rows.append((title, _number(found[name], ",.3g", unit), _number(peak, ",.4g", unit), _share(share)))
    return markdown(("rate", "measured", "data sheet", "share"), rows)


def _steps(done):
    rows = []
    for name, row in done.items():
        if "ceilings" in row:
            share = row["flops_per_second"] / _rate(done) if _rate(done) else None
            rows.append(
                (
                    name,
                    row["batch_size"],
                    f"{row['images_per_second']:,.1f}",
                    f"{1000 * row['seconds']:,.1f}",
                    _number(row["flops_per_second"], ",.3g", TERA),
                    _share(share),
                    " / ".join(_number(ceiling, ".0%") for ceiling in row["ceilings"]),
                    _number(row["peak_bytes"], ".2f", GIGA),
                    _number(row["planned_bytes"], ".2f", GIGA),
                    f"{row['first_epoch_seconds']:.1f}",
                )
            )
    header = ("step", "batch", "images/s", "ms", "TFLOP/s", "of products", "ceiling, unfused / fused")
    return markdown((*header, "peak GB", "planned GB", "first epoch s"), rows) if rows else ""


def _plain(done):
    rows = []
    for framework in ("plain_torch", "plain_torch_whole", "plain_flax"):
        for method in ("umd", "dit"):
            found, ours = done.get(framework, {}).get(method), done.get(f"{method}_base")
            if found:
                ratio = None if ours is None else ours["images_per_second"] / found["images_per_second"]
                speed = f"{found['images_per_second']:,.1f}"
                rows.append((framework, method, found["batch_size"], speed, _number(ratio, ".2f")))
    return markdown(("same network", "method", "batch", "images/s", "keras_umd : it"), rows) if rows else ""


def _sampling(done):
    if "sampling" not in done:
        return ""
    row = done["sampling"]
    share = row["flops_per_second"] / _rate(done) if _rate(done) else None
    cells = (row["batch_size"], row["num_steps"], f"{row['images_per_second']:,.2f}", _share(share))
    return markdown(("sampling: batch", "steps", "images/s", "of products"), [cells])


def _parity(done):
    rows = [
        (
            name,
            *(_number(row.get(key), ".1e") for key in ("loss", "gradients", "features")),
            row.get("levels", ""),
            _share(row.get("equal_pixels")),
        )
        for name, row in done.get("parity", {}).items()
    ]
    header = ("precision", "loss", "gradients", "features", "levels of a sample", "equal pixels")
    return markdown(header, rows) if rows else ""


def _kernels(done):
    if "profile" not in done:
        return ""
    found = done["profile"]
    rows = [
        (row["name"].replace("|", " ")[:80], f"{1000 * row['seconds']:.2f}", f"{row['calls']:g}", _share(row["share"]))
        for row in found["kernels"]
    ]
    title = f"kernels of a step of {1000 * found['busy_seconds']:.1f} ms"
    return markdown((title, "ms", "calls", "share"), rows)


def _missing(parts):
    rows = [
        (name, outcome["status"], _last_line(outcome["reason"]))
        for name, outcome in parts.items()
        if outcome["status"] != "done"
    ]
    return markdown(("not here", "", "reason"), rows) if rows else ""


def _last_line(reason):
    lines = reason.strip().splitlines() or [""]
    return lines[-1].replace("|", " ")[:300]
