"""What PyTorch reaches on the same GPU in the same run: an unfused scan, FlashAttention through SDPA, products of cuBLAS.
python3 bench/gpu/peers.py [FILE]: medians of 5 runs by CUDA events, as JSON."""
import json
import statistics
import sys

import torch
import torch.nn.functional as F


def median_ms(body, runs=5, warm_ups=2):
    for _ in range(warm_ups):
        body()
    times = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        body()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def unfused_scan(x, dt, A, B, C):
    """h[t] = exp(dt A) h[t-1] + dt B x, y = C h, one step at a time, as a first version in PyTorch is written."""
    decay = torch.exp(dt.unsqueeze(-1) * A)
    entering = (dt * x).unsqueeze(-1) * B.unsqueeze(2)
    h = torch.zeros_like(entering[:, 0])
    y = []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + entering[:, t]
        y.append((h * C[:, t].unsqueeze(1)).sum(-1))
    return torch.stack(y, 1)


results = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
with torch.no_grad():
    length, channels, states = 2048, 1536, 16
    x, dt = torch.randn(1, length, channels, device="cuda"), torch.rand(1, length, channels, device="cuda")
    A = -torch.rand(channels, states, device="cuda")
    B, C = (torch.randn(1, length, states, device="cuda") for _ in range(2))
    results["unfused scan f32 B1 D1536 L2048 ms"] = median_ms(lambda: unfused_scan(x, dt, A, B, C), runs=3, warm_ups=1)
    for length in [2**k for k in range(9, 18)]:
        q, k, v = (torch.randn(1, 12, length, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            results[f"SDPA flash causal bf16 B1 H12 d64 L{length} ms"] = median_ms(
                lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
            )
    for size in (4096, 8192):
        a, b = (torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2))
        results[f"product f16 {size}^3 TFLOP/s"] = 2 * size**3 / median_ms(lambda: a @ b) / 1e9
text = json.dumps(results, indent=1)
if len(sys.argv) > 1:
    open(sys.argv[1], "w").write(text)
print(text)
