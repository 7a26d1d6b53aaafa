"""The same network in plain PyTorch: what keras_umd is measured by."""

import time

import torch
from torch import nn
from torch.nn import functional as F

from device.sizes import SIZES, views

WARM_UP, STEPS = 3, 20


class Block(nn.Module):
    """A transformer block whose norms are modulated by a condition, AdaLN-zero."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden, self.output = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x, condition):  # (batch, tokens, width), (batch, width)
        shift0, scale0, gate0, shift1, scale1, gate1 = self.modulation(condition)[:, None].chunk(6, dim=-1)
        y = self.qkv(self.attention_norm(x) * (1 + scale0) + shift0)
        q, k, v = y.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + gate0 * self.projection(y)
        y = self.mlp_norm(x) * (1 + scale1) + shift1
        return x + gate1 * self.output(F.gelu(self.hidden(y), approximate="tanh"))


class Network(nn.Module):
    """Encoder of the visible patches, decoder of all, and both predictions."""

    def __init__(self, sizes):
        super().__init__()
        width, heads, patches, values = sizes.width, sizes.heads, sizes.patches, sizes.values
        self.embed, self.cls = nn.Linear(values, width), nn.Parameter(torch.zeros(1, 1, width))
        self.positions, self.decoder_positions = (nn.Parameter(torch.zeros(1, patches, width)) for _ in range(2))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = nn.ModuleList(Block(width, heads) for _ in range(sizes.encoder))
        self.decoder = nn.ModuleList(Block(width, heads) for _ in range(sizes.decoder))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.time = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.modulation, self.head = nn.Linear(width, 2 * width), nn.Linear(width, 2 * values)

    def forward(self, patches, level, order, visible):
        """Predictions `(batch, patches, 2 * values)` of patches in the order of `order`, of which few are visible."""
        condition = F.silu(self.time(level))
        index = order[:, :visible, None]
        x = self.embed(patches.gather(1, index.expand(-1, -1, patches.shape[-1])))
        positions = self.positions.to(x.dtype).expand(len(x), -1, -1)
        x = x + positions.gather(1, index.expand(-1, -1, x.shape[-1]))
        x = torch.cat([self.cls.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        for block in self.encoder:
            x = block(x, condition)
        x = self.encoder_norm(x).to(x.dtype)  # the stream stays in bfloat16, as in keras_umd
        masked = self.mask_token.expand(len(x), patches.shape[1] - visible, -1)
        places = order[:, :, None].expand(-1, -1, x.shape[-1])
        positions = self.decoder_positions.to(x.dtype).expand(len(x), -1, -1).gather(1, places)
        x = torch.cat([x[:, :1], torch.cat([x[:, 1:], masked.to(x.dtype)], dim=1) + positions], dim=1)
        for block in self.decoder:
            x = block(x, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
        return self.head(self.decoder_norm(x[:, 1:]) * (1 + scale) + shift)


def steps(setting, size, batch_size, methods=("umd", "dit"), whole=False):
    """Training steps of UMD and of DiT, compiled, in bfloat16 autocast, with fused AdamW and clipped gradients.

    Random patches lie on the device; noise, masks and losses of each pixel are drawn and computed here, too, but no
    images are read, and no averages or logs are kept.

    Args:
        setting: `Setting`.
        size: String, a preset of pixels without its method.
        batch_size: Integer.
        methods: Tuple of strings.
        whole: Bool. Whether the network is compiled as a whole, for minutes, or its blocks, as PyTorch advises.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    sizes = SIZES["tiny" if setting.tiny else size]
    result = {"torch": torch.__version__, "device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
    for method in methods:
        number = 4 if setting.tiny else batch_size
        network = Network(sizes).to(device)
        for compiled in [] if setting.tiny else [network] if whole else [*network.encoder, *network.decoder]:
            compiled.compile(dynamic=False)
        seconds, first = timed_steps(setting, network, views(method, sizes, number), sizes, device)
        result[method] = {
            "batch_size": number,
            "seconds": seconds,
            "images_per_second": number / seconds,
            "first_seconds": first,
        }
    if device == "cuda":
        result["peak_bytes"] = torch.cuda.max_memory_allocated()
    return result


def timed_steps(setting, network, shares, sizes, device):
    """Mean seconds of a step, and those of the first, which compiles."""
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.05, fused=device == "cuda")

    def loss_of(number, visible):
        x0, noise = (torch.randn(number, sizes.patches, sizes.values, device=device) for _ in range(2))
        level = torch.rand(number, 1, device=device)
        order = torch.rand(number, sizes.patches, device=device).argsort(dim=1)
        x = (1 - level[:, :, None]).sqrt() * x0 + level[:, :, None].sqrt() * noise
        with torch.autocast(device, torch.bfloat16):
            predicted = network(x, level.expand(-1, sizes.width), order, visible).float()
        target = torch.cat([x0, noise], dim=-1).gather(1, order[:, :, None].expand(-1, -1, 2 * sizes.values))
        return F.mse_loss(predicted, target)

    def step():
        loss = sum(loss_of(*share) for share in shares) / len(shares)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None

    def timed(number):
        start = time.perf_counter()
        for _ in range(number):
            step()
        synchronize()
        return (time.perf_counter() - start) / number

    first = timed(1)
    timed(1 if setting.tiny else WARM_UP)
    return timed(2 if setting.tiny else STEPS), first
