"""Explainers beside the libraries that they stand for, same images, same net, same process, turn by turn.

python scripts/bench_explain.py [views cam cams ig occlusion scorecam ablationcam lime shap rate every] [--net resnet18]

Prints median seconds and range of each contender, the median ratio of its turns to the first one's, and the peak memory
of the process so far (on the CPU, seconds are those of this process, so that other work on the machine does not count).
"""

import argparse
import contextlib
import io
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from captum.attr import IntegratedGradients, Occlusion
from lime import lime_image
from pytorch_grad_cam import AblationCAM, GradCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from heatproof.base.forwards import shared_forwards
from heatproof.base.hooks import shared_pass
from heatproof.base.methods import explain_batch
from heatproof.base.names import MethodName
from heatproof.base.records import Classifier, Method
from heatproof.base.registry import Bound, bind, choices, preset
from heatproof.base.twin import Twin

# Net: last layer, lower layer.
LAYERS = {
    "resnet18": ("layer4", "layer3"),
    "resnet50": ("layer4", "layer3"),
    "squeezenet1_0": ("features.12", "features.7"),
    "mobilenet_v2": ("features.18", "features.13"),
    "vgg16": ("features.29", "features.22"),
}
SIX = ("gradcam", "gradcam_plus_plus", "xgradcam", "hirescam", "layercam", "elementwise")
VIEWS = ("identity", "flip", "rotate_p15", "colour_jitter", "gaussian_blur", "greyscale")
# Images of one batch, where that is ours to choose.
AT_ONCE = 16
Contenders = dict[str, Callable[[], object]]
Layers = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), choices=[*CASES, []])
    parser.add_argument("--net", default="resnet18", choices=LAYERS)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    net = torchvision.models.get_model(options.net).eval().to(options.device)
    images = torch.rand(options.images, 3, options.size, options.size, device=options.device)
    targets = torch.arange(options.images, device=options.device)
    print(
        f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, {options.net}, "
        f"{options.images} images of {options.size} px, median of {options.repeats}"
    )
    for case in options.cases:
        show(case, timed(CASES[case](net, images, targets, LAYERS[options.net]), options.repeats, options.device))


def gradcam_on_views(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """Grad-CAM fused over six views, the twin made once as in a run: all images at once, one by one, and
    pytorch-grad-cam's six views."""
    last = layers[0]
    views = tuple(preset("view", name) for name in VIEWS)
    name = MethodName("gradcam", last, "robustcam6", "mean")
    method = Method(name, bind("explainer", "gradcam"), last, views, preset("fusion", "mean"))
    classifier, twin = classifier_of(net, layer=last), Twin(net, images)

    def ours(rows: Tensor) -> None:
        with shared_forwards(classifier, twin=twin, lasting=True):
            for part in rows.split(AT_ONCE):
                names = [str(row) for row in part.tolist()]
                explain_batch(classifier, images[part], targets[part], [method], ids=names, seed=0)

    def library() -> None:
        with GradCAM(model=net, target_layers=[net.get_submodule(last)]) as cam:
            cam(input_tensor=images, targets=goals(targets), aug_smooth=True)

    every = torch.arange(len(images))
    return {
        "ours": partial(ours, every),
        "aug_smooth": library,
        "ours one by one": lambda: [ours(row) for row in every.split(1)],
    }


def cam(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """One Grad-CAM at the last layer beside a plain forward pass of the same net."""

    def forward() -> None:
        with torch.inference_mode():
            net(images)

    def library() -> None:
        with GradCAM(model=net, target_layers=[net.get_submodule(layers[0])]) as made:
            made(input_tensor=images, targets=goals(targets))

    gradcam = bind("explainer", "gradcam")
    return {
        "forward": forward,
        "gradcam": lambda: gradcam(net, images, targets, layer=layers[0]),
        "pytorch-grad-cam": library,
    }


def cams(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """Six CAMs at two layers together beside one of them at the lower layer."""
    six = [bind("explainer", name) for name in SIX]

    def together() -> None:
        with shared_pass(net, images, targets, layers):
            for layer in layers:
                for method in six:
                    method(net, images, targets, layer=layer)

    return {
        "one at the lower layer": lambda: six[0](net, images, targets, layer=layers[1]),
        "six at two layers": together,
    }


def ig(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """64 steps of integrated gradients, image by image as captum's memory wants it."""
    ours = bind("explainer", "integrated_gradients")
    steps = int(ours.settings["steps"])

    def library() -> None:
        method = IntegratedGradients(net)
        for image, target in zip(images.split(1), targets, strict=True):
            method.attribute(image.clone().requires_grad_(), 0.0, target, n_steps=steps, method="riemann_middle")

    return {"ours": lambda: ours(net, images, targets), "captum": library}


def occlusion(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """Patch 20, stride 10: captum in batches of several sizes (its best counts), and one position after the other."""
    explainer = bind("explainer", "occlusion")

    def captum(at_once: int) -> None:
        Occlusion(net).attribute(
            images, (3, 20, 20), strides=(3, 10, 10), baselines=0.5, target=targets, perturbations_per_eval=at_once
        )

    def loop() -> None:
        with torch.inference_mode():
            for i in range(len(images)):
                net(images[i : i + 1])
                for y in starts(images.shape[-2]):
                    for x in starts(images.shape[-1]):
                        covered = images[i : i + 1].clone()
                        covered[..., y : y + 20, x : x + 20] = 0.5
                        net(covered)

    batched = {f"captum, {n} at once": partial(captum, n) for n in (8, 32)}
    return {"ours": shared(explainer, net, images, targets), **batched, "one by one": loop}


def starts(size: int) -> list[int]:
    return sorted({*range(0, size - 19, 10), size - 20})


def scorecam(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """Every channel of the last layer."""
    return perturbed("scorecam", ScoreCAM, net, images, targets, layers[0])


def ablationcam(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """Every channel of the last layer."""
    return perturbed("ablationcam", AblationCAM, net, images, targets, layers[0])


def perturbed(name: str, method: type, net: nn.Module, images: Tensor, targets: Tensor, layer: str) -> Contenders:
    explainer = bind("explainer", name)

    def library() -> None:
        with method(model=net, target_layers=[net.get_submodule(layer)]) as cam:
            cam.batch_size = 64
            cam(input_tensor=images, targets=goals(targets))

    return {
        "ours": shared(explainer, net, images, targets, layer=layer),
        "pytorch-grad-cam": library,
    }


def lime(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """200 samples, quickshift in both; the package called plainly runs ten images at once."""
    explainer = bind("explainer", "lime", {"samples": 200, "segmentation": "quickshift"})

    def predict(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(torch.as_tensor(batch).permute(0, 3, 1, 2).float()).softmax(1).numpy()

    def library() -> None:
        for image, target in zip(images.permute(0, 2, 3, 1).double().numpy(), targets.tolist(), strict=True):
            made = lime_image.LimeImageExplainer(random_state=0)
            made.explain_instance(image, predict, labels=(target,), top_labels=None, num_samples=200)

    seeds = torch.arange(len(images))
    return {"ours": shared(explainer, net, images, targets, seeds=seeds), "lime": library}


def shap(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """100 samples against 10 background images; the package called plainly explains one class of all, ranked first."""
    from shap import GradientExplainer

    explainer = bind("explainer", "shap", {"samples": 100})
    background = torch.rand(10, *images.shape[1:], device=images.device)

    def library() -> None:
        GradientExplainer(net, background).shap_values(images.clone(), nsamples=100, ranked_outputs=1, rseed=0)

    seeds = torch.arange(len(images))
    return {
        "ours": lambda: explainer(classifier_of(net, background), images, targets, seeds=seeds),
        "shap": library,
    }


def shared(explainer: Bound, net: nn.Module, images: Tensor, targets: Tensor, **more: object) -> Callable[[], object]:
    """The explainer as in a run: the twin is there already, made once for all images."""
    classifier, twin = classifier_of(net), Twin(net, images)

    def run() -> None:
        with shared_forwards(classifier, twin=twin):
            explainer(classifier, images, targets, **more)

    return run


def rate(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """RISE and occlusion's passes a second beside the bare twin's: the same number of images through it."""
    twin, classifier = Twin(net, images), classifier_of(net)
    explainer = bind("explainer", "rise", {"samples": 256})
    seeds = torch.arange(len(images))

    def ours() -> None:
        with shared_forwards(classifier, batch=64, twin=twin):
            explainer(classifier, images, targets, seeds=seeds)

    def bare() -> None:
        for _ in range(256 * len(images) // 64):
            twin(images[:1].expand(64, -1, -1, -1).contiguous())

    return {"bare twin": bare, "rise": ours}


def every(net: nn.Module, images: Tensor, targets: Tensor, layers: Layers) -> Contenders:
    """Every registered explainer that makes maps of such a net by itself, each as its option has it, beside a plain
    forward pass."""
    classifier = classifier_of(net, background=torch.rand(32, *images.shape[1:]), layer=layers[0])
    ids = [str(row) for row in range(len(images))]

    def forward() -> None:
        with torch.inference_mode():
            net(images)

    def run(method: Method) -> None:
        explain_batch(classifier, images, targets, [method], ids=ids, seed=0)

    runs: Contenders = {"forward": forward}
    for name, choice in sorted(choices("explainer").items()):
        facts = choice.facts
        if any(facts.get(fact) for fact in ("control", "given", "combines")) or "attention" in facts.get("needs", ()):
            continue
        layer = layers[0] if "layer" in choice.supplied else None
        runs[name] = partial(run, Method(MethodName(name, layer), preset("explainer", name), layer))
    return runs


CASES: dict[str, Callable[[nn.Module, Tensor, Tensor, Layers], Contenders]] = {
    "views": gradcam_on_views,
    "cam": cam,
    "cams": cams,
    "ig": ig,
    "occlusion": occlusion,
    "scorecam": scorecam,
    "ablationcam": ablationcam,
    "lime": lime,
    "shap": shap,
    "rate": rate,
    "every": every,
}


def classifier_of(net: nn.Module, background: Tensor | None = None, layer: str = "") -> Classifier:
    return Classifier(net, tuple(map(str, range(1000))), (layer,), "bench", background=background)


def goals(targets: Tensor) -> list[ClassifierOutputTarget]:
    return [ClassifierOutputTarget(target) for target in targets.tolist()]


def timed(contenders: Contenders, repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each contender's repeats, after one round to warm up; progress bars of libraries are kept quiet."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {label: [] for label in contenders}
    for turn in range(repeats + 1):
        for label, run in contenders.items():
            start = clock()
            with contextlib.redirect_stderr(io.StringIO()):
                run()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn:
                seconds[label].append(clock() - start)
    return seconds


def show(case: str, seconds: dict[str, list[float]]) -> None:
    first = next(iter(seconds.values()))
    parts = []
    for label, found in seconds.items():
        ratios = [one / base for one, base in zip(found, first, strict=True)]
        said = f"{statistics.median(found):.3f} s ({min(found):.3f}-{max(found):.3f})"
        parts.append(f"{label} {said} x {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"{case}: " + ", ".join(parts) + f"; peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
