"""Peak speed, memory, its bandwidth and power of accelerators, from their data sheets."""

import dataclasses

from keras_umd.utils.checks import check_instances, check_numbers, check_one_of, require


@dataclasses.dataclass(frozen=True)
class Device:
    """An accelerator.

    Example:

    >>> mine = keras_umd.Device("my card", bfloat16=100e12, float32=50e12, memory=24e9)
    >>> print(keras_umd.plan(model, 64, mine))

    Args:
        name: String.
        bfloat16: Float, the peak of dense matrix products in bfloat16 or float16, in FLOP/s.
        float32: Float, the same for float32 inputs, as the backend computes them by default; see `DEVICES`.
        memory: Float, in bytes.
        watts: Float, its power, or `None` where it isn't known.
        kinds: Tuple of strings, the names that backends have for it.
        bandwidth: Float, of its memory, in bytes/s, or `None` for no `Plan.ceilings`.
        product_share: Float in (0, 1], the share of its peak that matrix products of a transformer's sizes reach. An
            assumption where it isn't measured; 1 where `bfloat16` and `float32` are measured rates.
    """

    name: str
    bfloat16: float
    float32: float
    memory: float
    watts: float | None = None
    kinds: tuple[str, ...] = ()
    bandwidth: float | None = None
    product_share: float = 0.8

    def __post_init__(self):
        check_instances(str, "the name of the device, a string", name=self.name)
        check_numbers("(0, inf)", bfloat16=self.bfloat16, float32=self.float32, memory=self.memory)
        check_numbers("(0, inf)", optional=True, watts=self.watts, bandwidth=self.bandwidth)
        check_numbers("(0, 1]", product_share=self.product_share)
        require(
            isinstance(self.kinds, tuple) and all(isinstance(kind, str) for kind in self.kinds),
            "`kinds` must be a tuple of strings.",
            kinds=self.kinds,
        )

    def peak_flops(self, dtype):
        """The peak in FLOP/s for layers that compute in `dtype`, a string."""
        check_one_of(("float64", "float32", "bfloat16", "float16"), dtype=dtype)
        return self.float32 if dtype == "float32" else self.bfloat16


# Peaks, memory, bandwidth and power are those of data sheets; none is measured. Dense peaks, without sparsity.
# float32: TPUs take one bfloat16 product by JAX's default precision; NVIDIA's cards TF32 by that of JAX and TensorFlow,
# but PyTorch only after torch.set_float32_matmul_precision("high"). `product_share` is in no data sheet: products of
# these sizes are assumed to reach 0.92 on TPUs, 0.7 on Hopper and 0.8 elsewhere, until a card is measured.
# One JAX device is one chip from TPU v4 on; a "v4-8" has 4.
DEVICES = {
    device.name: device
    for device in (
        # docs.cloud.google.com/tpu/docs/v4: 275 TFLOP/s, 32 GiB at 1,228 GB/s, mean power 170 W (192 W at most).
        Device("TPU v4", 275e12, 275e12, 32 * 2**30, 170, ("TPU v4",), 1228e9, 0.92),
        # docs.cloud.google.com/tpu/docs/v5e, /v5p, /v6e: compute and memory; their power isn't published.
        Device("TPU v5e", 197e12, 197e12, 16e9, None, ("TPU v5 lite", "TPU v5e"), 819e9, 0.92),
        Device("TPU v5p", 459e12, 459e12, 95e9, None, ("TPU v5", "TPU v5p"), 2765e9, 0.92),
        Device("TPU v6e", 918e12, 918e12, 32e9, None, ("TPU v6 lite", "TPU v6e"), 1640e9, 0.92),
        # NVIDIA's data sheets of T4 and V100 (SXM2): float16, since they have no bfloat16, and no TF32.
        Device("T4", 65e12, 8.1e12, 16e9, 70, ("Tesla T4",), 320e9),
        Device("V100 32GB", 125e12, 15.7e12, 32e9, 300, ("Tesla V100-SXM2-32GB",), 900e9),
        # NVIDIA's data sheets of A10 and L4, the latter's halved, as they are with sparsity.
        Device("A10", 125e12, 62.5e12, 24e9, 150, ("NVIDIA A10",), 600e9),
        Device("L4", 121e12, 60e12, 24e9, 72, ("NVIDIA L4",), 300e9),
        # NVIDIA's data sheet "A100 Tensor Core GPU", SXM: 312 and 156 TFLOP/s, 80 GB at 2,039 GB/s, 400 W.
        Device("A100 80GB", 312e12, 156e12, 80e9, 400, ("NVIDIA A100-SXM4-80GB",), 2039e9),
        # NVIDIA's "H100 Tensor Core GPU Architecture" and data sheet, SXM5: 989.4 and 494.7 TFLOP/s, 80 GB at
        # 3.35 TB/s, 700 W.
        Device("H100 SXM", 989.4e12, 494.7e12, 80e9, 700, ("NVIDIA H100 80GB HBM3",), 3350e9, 0.7),
        # NVIDIA's data sheet "H200 Tensor Core GPU", SXM: the compute of the H100, 141 GB at 4.8 TB/s, 700 W.
        Device("H200", 989.4e12, 494.7e12, 141e9, 700, ("NVIDIA H200",), 4800e9, 0.7),
        # NVIDIA's "Ampere GA102 GPU Architecture": 71 (sums in float32) and 35.6 TFLOP/s, 24 GB, 936 GB/s, 350 W.
        Device("RTX 3090", 71e12, 35.6e12, 24e9, 350, ("NVIDIA GeForce RTX 3090",), 936e9),
        # NVIDIA's "Ada GPU Architecture", appendix A: 165.2 (sums in float32) and 82.6 TFLOP/s, 24 GB, 1,008 GB/s,
        # 450 W.
        Device("RTX 4090", 165.2e12, 82.6e12, 24e9, 450, ("NVIDIA GeForce RTX 4090",), 1008e9),
    )
}


def as_device(device):
    """The `Device` of a name in `DEVICES`; a `Device` and `None` are returned as they are."""
    if device is None or isinstance(device, Device):
        return device
    require(
        isinstance(device, str) and device in DEVICES,
        f"`device` must be one of {list(DEVICES)}, or a keras_umd.Device with the numbers of another.",
        f"device={device!r}",
    )
    return DEVICES[device]


def device_of_kind(kind):
    """The `Device` that a backend calls `kind`, or `None`."""
    return next((device for device in DEVICES.values() if kind in device.kinds), None)
