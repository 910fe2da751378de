"""Gradient explainers beside a plain forward pass, pytorch-grad-cam and captum: `python scripts/bench_cam.py`.

Per net: one Grad-CAM, six CAMs at two layers together against one of them at the lower layer, pytorch-grad-cam;
`--ig`: integrated gradients against captum's called plainly. Median and range of the seconds of interleaved repeats (on
the CPU those of this process, so that other work on the machine does not count) and ratios of one turn's neighbours.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import captum.attr
import torch
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from heatproof.base.hooks import shared_pass
from heatproof.explainers.gradcam import gradcam, gradcam_plus_plus, xgradcam
from heatproof.explainers.input_gradients import integrated_gradients
from heatproof.explainers.pixelwise_cams import elementwise, hirescam, layercam

SIX = (gradcam, gradcam_plus_plus, xgradcam, hirescam, layercam, elementwise)
STEPS = 64
# What is timed and what it is measured against.
RATIOS = (
    ("gradcam", "forward"),
    ("pytorch-grad-cam", "forward"),
    ("6 CAMs x 2 layers", "gradcam lower"),
    ("captum", "integrated gradients"),
)
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
    parser.add_argument("--ig", action="store_true", help="integrated gradients instead of CAMs")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, batch {options.batch}")
    for name in options.nets:
        make = gradients if options.ig else cases
        seconds = timed(make(name, options.batch, options.size, options.device), options.repeats, options.device)
        for case, found in seconds.items():
            print(f"{name}: {case} {said(found)} s")
        for case, base in RATIOS:
            if case in seconds:
                ratios = [a / b for a, b in zip(seconds[case], seconds[base], strict=True)]
                print(f"{name}: {case} / {base} {said(ratios)}")


def said(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def cases(name: str, batch: int, size: int, device: str) -> dict[str, Callable[[], object]]:
    """What is timed, by its label."""
    net = torchvision.models.get_model(name).eval().to(device)
    images = torch.rand(batch, 3, size, size, device=device)
    targets = torch.arange(batch, device=device)
    layers = NETS[name]

    def forward() -> None:
        with torch.inference_mode():
            net(images)

    def six_at_both_layers() -> None:
        with shared_pass(net, images, targets, layers):
            for layer in layers:
                for method in SIX:
                    method(net, images, targets, layer=layer)

    def library() -> None:
        with GradCAM(model=net, target_layers=[net.get_submodule(layers[0])]) as cam:
            cam(input_tensor=images, targets=[ClassifierOutputTarget(int(t)) for t in targets])

    return {
        "forward": forward,
        "gradcam": lambda: gradcam(net, images, targets, layer=layers[0]),
        "gradcam lower": lambda: gradcam(net, images, targets, layer=layers[1]),
        "6 CAMs x 2 layers": six_at_both_layers,
        "pytorch-grad-cam": library,
    }


def gradients(name: str, batch: int, size: int, device: str) -> dict[str, Callable[[], object]]:
    """Integrated gradients, ours and captum's."""
    net = torchvision.models.get_model(name).eval().to(device)
    images = torch.rand(batch, 3, size, size, device=device)
    targets = torch.arange(batch, device=device)

    def library() -> None:
        method = captum.attr.IntegratedGradients(net)
        method.attribute(images.clone().requires_grad_(), 0.0, targets, n_steps=STEPS, method="riemann_middle")

    return {
        "integrated gradients": lambda: integrated_gradients(net, images, targets, steps=STEPS),
        "captum": library,
    }


def timed(contenders: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each contender, turn by turn, after one warm-up round."""
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
    return seconds


if __name__ == "__main__":
    main()
