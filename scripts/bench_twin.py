"""Speed of the inference twin over the plain net: median images per second of each, alternating in one process.

python scripts/bench_twin.py [--size 224] [--batch 8] [--repeats 7] [model ...]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from heatproof.base.registry import preset
from heatproof.base.twin import Twin

MODELS = [
    "small_cnn",
    "squeezenet1_0",
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "efficientnet_b0",
    "densenet121",
    "vgg16",
]


def seconds(run: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    start = time.perf_counter()
    run(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name_of_device = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{name_of_device}, {options.size} px, batch {options.batch}, median of {options.repeats}")
    print(f"{'model':16} {'plain/s':>8} {'twin/s':>8} {'ratio':>6} {'folded':>6} {'largest difference':>18}")
    for name in options.models:
        torch.manual_seed(0)
        net = preset("model", name)(3, 3).to(device).eval()
        images = torch.rand(options.batch, 3, options.size, options.size, device=device)
        twin = Twin(net, images[:2])

        def plain(batch: torch.Tensor, net: torch.nn.Module = net) -> torch.Tensor:
            with torch.no_grad():
                return net(batch)

        difference = float((twin(images) - plain(images)).abs().max())
        times = [(seconds(plain, images), seconds(twin, images)) for _ in range(options.repeats)]
        slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
        rate = options.batch / slow, options.batch / fast
        print(
            f"{name:16} {rate[0]:8.1f} {rate[1]:8.1f} {slow / fast:6.2f} {twin.folded:6d} {difference:18.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
