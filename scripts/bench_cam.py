"""One Grad-CAM beside a plain forward pass and pytorch-grad-cam, in one run: `python scripts/bench_cam.py`.

Median seconds of the interleaved repeats (on the CPU those of this process, so that other work on the machine does not
count) and ratios to the plain forward.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from heatproof.base.hooks import shared_pass
from heatproof.explainers.gradcam import gradcam, gradcam_plus_plus

# Net: last layer, lower layer.
NETS = {
    "resnet18": ("layer4", "layer3"),
    "resnet50": ("layer4", "layer3"),
    "squeezenet1_0": ("features.12", "features.7"),
    "mobilenet_v2": ("features.18", "features.13"),
    "vgg16": ("features.29", "features.22"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=list(NETS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, batch {options.batch}")
    for name in options.nets:
        contenders = cases(name, options.batch, options.size, options.device)
        seconds = medians(contenders, options.repeats, options.device)
        plain = seconds["forward"]
        print(f"{name}: " + ", ".join(f"{case} {s:.3f} s ({s / plain:.2f})" for case, s in seconds.items()))


def cases(name: str, batch: int, size: int, device: str) -> dict[str, Callable[[], object]]:
    """What is timed, by its label."""
    net = torchvision.models.get_model(name).eval().to(device)
    images = torch.rand(batch, 3, size, size, device=device)
    targets = torch.arange(batch, device=device)
    layers = NETS[name]

    def forward() -> None:
        with torch.inference_mode():
            net(images)

    def both_at_both_layers() -> None:
        with shared_pass(net, images, targets, layers):
            for layer in layers:
                gradcam(net, images, targets, layer=layer)
                gradcam_plus_plus(net, images, targets, layer=layer)

    def library() -> None:
        with GradCAM(model=net, target_layers=[net.get_submodule(layers[0])]) as cam:
            cam(input_tensor=images, targets=[ClassifierOutputTarget(int(t)) for t in targets])

    return {
        "forward": forward,
        "gradcam": lambda: gradcam(net, images, targets, layer=layers[0]),
        "gradcam lower": lambda: gradcam(net, images, targets, layer=layers[1]),
        "2 CAMs x 2 layers": both_at_both_layers,
        "pytorch-grad-cam": library,
    }


def medians(contenders: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each contender after one warm-up round."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {label: [] for label in contenders}
    for turn in range(repeats + 1):
        for label, run in contenders.items():
            start = clock()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn:
                seconds[label].append(clock() - start)
    return {label: statistics.median(values) for label, values in seconds.items()}


if __name__ == "__main__":
    main()
