"""Plan a training before it starts: FLOPs, memory, hours and energy."""

import dataclasses

from keras_umd.planning.ceilings import Ceiling, Traffic, ceiling, step_traffic
from keras_umd.planning.devices import Device, as_device
from keras_umd.planning.flops import PartFlops, step_flops
from keras_umd.planning.memory import Memory, step_memory
from keras_umd.utils.checks import check_bools, check_integers, check_numbers, check_positive_integers, require


def plan(
    model, batch_size, device=None, *, num_devices=1, shard_weights=False, utilization=0.4, num_images=None, epochs=1
) -> "Plan":
    """Count the FLOPs and the memory of one training step, and estimate the time of many on given devices.

    Example:

    >>> model = keras_umd.UMD.from_preset("umd_tiny_patch4_64", dtype="mixed_bfloat16")
    >>> print(keras_umd.plan(model, 1024, "TPU v4", num_devices=4, num_images=1_281_167, epochs=800))

    Args:
        model: `UMD`. Its corruption, precision, `remat`, optimizer (AdamW if it isn't compiled) and averages count.
            Where it has classes, labels are given.
        batch_size: Integer, the images of one step on all devices.
        device: String, a name in `keras_umd.planning.DEVICES`; a `keras_umd.Device`; or `None`, for no times.
        num_devices: Integer, a divisor of the batch size; each has its share of the batch.
        shard_weights: Bool. Whether each device holds only its share of weights, optimizer and averages (FSDP), as by
            `UMD.layout_map` of a mesh of one axis.
        utilization: Float in (0, 1], the assumed share of the device's peak that the step's matrix products reach. By
            this count, the paper's pre-trainings on pixels reached 0.41 to 0.46 on TPU v4. Or `None`, for what the
            device's bandwidth leaves of it where elementwise passes run one by one, `Plan.unfused_ceiling`.
        num_images: Integer, the images of the data set, for the time of the whole training.
        epochs: Integer, passes over the data set.

    Returns:
        `Plan`.

    Raises:
        ValueError: for a batch that the devices can't share equally, an unknown device and values out of range.
    """
    require(hasattr(model, "network_layers"), "`model` must be a keras_umd.UMD.", model=model)
    check_positive_integers(batch_size=batch_size, num_devices=num_devices, epochs=epochs)
    check_integers(1, optional=True, num_images=num_images)
    check_bools(shard_weights=shard_weights)
    batch_size, num_devices, epochs = int(batch_size), int(num_devices), int(epochs)
    require(
        batch_size % num_devices == 0,
        "`batch_size` must be divisible by `num_devices`.",
        f"batch_size={batch_size}, num_devices={num_devices}",
    )
    check_numbers("(0, 1]", optional=True, utilization=utilization)
    device = as_device(device)
    require(
        utilization is not None or device is None or device.bandwidth is not None,
        "`utilization=None` needs a device with a `bandwidth`.",
        device=device,
    )
    memory = step_memory(model, batch_size // num_devices, num_devices if shard_weights else 1)
    return Plan(
        batch_size=batch_size,
        dtype=model.compute_dtype,
        parts=tuple(step_flops(model, batch_size)),
        memory=memory,
        traffic=step_traffic(model, batch_size, memory, num_devices),
        device=device,
        num_devices=num_devices,
        utilization=utilization,
        num_images=None if num_images is None else num_images * epochs,
    )


@dataclasses.dataclass(frozen=True)
class Plan:
    """The result of `plan`. `print` shows it as tables.

    Args:
        batch_size: Integer, images in a step.
        dtype: String, the type in which the layers compute.
        parts: Tuple of `PartFlops`, the FLOPs of matrix products by view of the batch and part of the network.
        memory: `Memory`, the bytes on each device.
        traffic: `Traffic`, the bytes that are moved beside the products.
        device: `Device` or `None`.
        num_devices: Integer.
        utilization: Float, the assumed share of the peak, or `None` for that of `unfused_ceiling`.
        num_images: Integer or `None`, the images of the whole training, those of all epochs.
    """

    batch_size: int
    dtype: str
    parts: tuple[PartFlops, ...]
    memory: Memory
    traffic: Traffic
    device: Device | None
    num_devices: int
    utilization: float | None
    num_images: int | None

    @property
    def model_flops(self):
        """FLOPs of a step, forward and backward, as "model FLOPs utilization" (MFU) counts them."""
        return sum(part.forward + part.backward for part in self.parts)

    @property
    def hardware_flops(self):
        """The same with what `remat` computes twice: all that the devices do."""
        return sum(part.total for part in self.parts)

    @property
    def peak_flops(self):
        """FLOP/s of all devices at their peak; `None` without a device."""
        return None if self.device is None else self.num_devices * self.device.peak_flops(self.dtype)

    @property
    def step_seconds(self):
        """Estimated seconds of a step; `None` without a device."""
        if self.device is None:
            return None
        if self.utilization is None:
            return self.unfused_ceiling.seconds
        return self.hardware_flops / (self.utilization * self.peak_flops)

    @property
    def unfused_ceiling(self) -> Ceiling | None:
        """The best with LayerNorms, GELU and sums one by one; `None` without the bandwidth of a device."""
        return ceiling(self, self.traffic.unfused)

    @property
    def fused_ceiling(self) -> Ceiling | None:
        """The best with GELU and the sums at the end of the products."""
        return ceiling(self, self.traffic.fused)

    @property
    def images_per_second(self):
        """On all devices; `None` without a device."""
        return None if self.device is None else self.batch_size / self.step_seconds

    @property
    def hours(self):
        """Hours of the whole training; `None` without a device or `num_images`."""
        is_known = self.device is not None and self.num_images is not None
        return self.num_images / self.images_per_second / 3600 if is_known else None

    @property
    def kilowatt_hours(self):
        """Energy of the boards alone, at the power that their maker states; `None` where that isn't known."""
        is_known = self.hours is not None and self.device.watts is not None
        return self.hours * self.num_devices * self.device.watts / 1000 if is_known else None

    @property
    def fits(self):
        """Whether a device has the memory, by the estimate; `None` without a device."""
        return None if self.device is None else self.memory.total <= self.device.memory

    def compare(self, step_seconds):
        """Compare the plan with the measured seconds of a step. Returns a `Comparison`."""
        check_numbers("(0, inf)", step_seconds=step_seconds)
        share = None if self.device is None else 1 / (step_seconds * self.peak_flops)
        return Comparison(
            step_seconds=step_seconds,
            images_per_second=self.batch_size / step_seconds,
            model_flops_per_second=self.model_flops / step_seconds,
            hardware_flops_per_second=self.hardware_flops / step_seconds,
            model_utilization=None if share is None else share * self.model_flops,
            hardware_utilization=None if share is None else share * self.hardware_flops,
            over_plan=None if share is None else step_seconds / self.step_seconds - 1,
        )

    def __str__(self):
        return "\n\n".join([self._flops_table(), self._memory_lines(), *self._time_lines()])

    def _flops_table(self):
        parts = [part for part in self.parts if part.total]
        rows = {name: [part for part in parts if part.part == name] for name in _names(parts, "part")}
        views, passes = _names(self.parts, "view"), ("forward", "backward", "recomputed")
        lines = [
            f"{'GFLOP a step':20}{''.join(f' | {title:>10}' for title in (*views, *passes))} | share",
            "-" * 21 + "|" + ("-" * 12 + "|") * len((*views, *passes)) + "-" * 6,
        ]
        for name, parts in {**rows, "all": self.parts}.items():
            by_view = [sum(part.total for part in parts if part.view == view) for view in views]
            by_pass = [sum(getattr(part, which) for part in parts) for which in passes]
            cells = "".join(f" | {flops / 1e9:10,.1f}" for flops in by_view + by_pass)
            lines.append(f"{name:20}{cells} | {sum(by_pass) / self.hardware_flops:5.1%}")
        lines.append(f"{self.model_flops / self.batch_size / 1e9:,.2f} GFLOP an image, forward and backward")
        return "\n".join(lines)

    def _memory_lines(self):
        parts = {name.replace("_", " "): size for name, size in dataclasses.asdict(self.memory).items() if size}
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
        images = self.batch_size // self.num_devices
        total = f"{self.memory.total / 1e9:.2f} GB on each device, {images} images: {listed}"
        if self.device is None:
            return total
        verdict = "enough" if self.fits else "not enough"
        return f"{total}\n{self.device.memory / 1e9:.1f} GB of a {self.device.name} are {verdict}, by this estimate"

    def _time_lines(self):
        if self.device is None:
            return []
        share = (
            "its ceiling" if self.utilization is None else f"{self.utilization:.0%} of {self.dtype}'s peak (assumed)"
        )
        lines = [
            f"{self.num_devices} x {self.device.name} at {share}: "
            f"{self.step_seconds:.3g} s a step, {self.images_per_second:,.0f} images/s",
            *self._ceiling_lines(),
        ]
        if self.hours is not None:
            energy = "" if self.kilowatt_hours is None else f", {self.kilowatt_hours:,.1f} kWh (boards alone)"
            lines.append(f"{self.num_images / 1e6:,.1f} million images: {self.hours:,.1f} hours{energy}")
        return lines

    def _ceiling_lines(self):
        if self.unfused_ceiling is None:
            return []
        unfused, fused = self.unfused_ceiling, self.fused_ceiling
        return [
            f"at most {unfused.utilization:.0%}, {unfused.images_per_second:,.0f} images/s, where LayerNorm, GELU and "
            f"sums pass through memory one by one at {self.device.bandwidth / 1e12:.3g} TB/s and products reach "
            f"{self.device.product_share:.0%}; {fused.utilization:.0%}, {fused.images_per_second:,.0f} images/s, where "
            "products end with GELU and the sums"
        ]


def _names(parts, field):
    return list(dict.fromkeys(getattr(part, field) for part in parts))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A measured step beside its `Plan`; shares of a peak are `None` where the plan has no device.

    Args:
        step_seconds: Float, as measured.
        images_per_second: Float.
        model_flops_per_second: Float, without what `remat` computes twice.
        hardware_flops_per_second: Float, with it.
        model_utilization: Float, `model_flops_per_second` over the devices' peak (MFU).
        hardware_utilization: Float, `hardware_flops_per_second` over the peak (HFU), the plan's `utilization`.
        over_plan: Float, the measured time over the planned one, minus 1.
    """

    step_seconds: float
    images_per_second: float
    model_flops_per_second: float
    hardware_flops_per_second: float
    model_utilization: float | None
    hardware_utilization: float | None
    over_plan: float | None

    def __str__(self):
        text = (
            f"{self.step_seconds:.4g} s a step, {self.images_per_second:,.1f} images/s, "
            f"{self.model_flops_per_second / 1e12:.3g} TFLOP/s"
        )
        if self.model_utilization is None:
            return text
        return (
            f"{text}: {self.model_utilization:.1%} of the peak, {self.hardware_utilization:.1%} with recomputation; "
            f"{self.over_plan:+.0%} beside the plan"
        )
