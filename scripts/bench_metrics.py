"""Metrics beside loops over the same metrics, the limit of the passes, and libraries: same net, images, maps, process.

    python scripts/bench_metrics.py nine                    # ours, a batched loop, an image-by-image loop, the limit
    python scripts/bench_metrics.py costs                   # seconds and passes an image of every metric
    python scripts/bench_metrics.py libraries               # captum, pytorch-grad-cam and Quantus
    python scripts/bench_metrics.py memory --num 1000       # peak memory of measuring so many images
    python scripts/bench_metrics.py suite --num 1           # metrics=all, 10 explainers, 5 controls, and the limit

Contenders take turns; printed are the median seconds of the process (on a CPU, so that other work on the machine does
not count) with the range, and the median ratio of the turns. "image by image": each of the nine metrics of each method
on each image alone, at batch 1, on the net as it is, everything made anew for each number; "batched loop": each of them
on all images, in full batches, on the net as it is. Both take the maps from the same explainer, whose
gradient ends at the layer: a loop that goes back through the whole net would be slower. "limit": the images that ours
runs, run through the twin in batches of its best size and nothing else; gradients are counted as one image.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor, nn

from heatproof.base.compose import compose
from heatproof.base.device import images_at_once, keep_freed_memory
from heatproof.base.forwards import shared_forwards
from heatproof.base.methods import MapPasses, explain_batch
from heatproof.base.names import MethodName
from heatproof.base.passes import Engine
from heatproof.base.randomise import OtherWeights
from heatproof.base.records import Classifier, Maps, Method, MetricChoice, Samples
from heatproof.base.registry import bind, choices, preset
from heatproof.base.settings import EvalSettings, MeasureSettings
from heatproof.base.store import Store
from heatproof.base.tasks import Block
from heatproof.base.twin import Twin
from heatproof.base.values import status_of
from heatproof.flow import passes_of
from heatproof.stages.explain import explain
from heatproof.stages.load import load
from heatproof.stages.measure import measure
from heatproof.stages.plan import make_plan
from heatproof.stages.predict import predict
from heatproof.stages.train import train

LAYERS = {"resnet18": "layer4", "resnet50": "layer4", "mobilenet_v2": "features.18"}
NINE = (
    *("faith", "loc_acc", "consist_iou", "fidelity", "stability", "consist_pearson"),
    *("view_variance", "view_iou", "view_spearman"),
)
# Metrics of regions or first classes, which jump where values change by rounding.
JUMPING = ("faith", "loc_acc", "consist_iou", "fidelity", "view_iou")
VIEWS = ("identity", "flip", "rotate_p15", "colour_jitter", "gaussian_blur", "greyscale")
SEED, AT_ONCE = 0, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("nine", "costs", "libraries", "memory", "suite"))
    parser.add_argument("--net", default="resnet18", choices=LAYERS)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--num", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="nine: beside the limit alone, without the loops")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    keep_freed_memory()
    if options.case == "suite":
        suite(options)
        return
    torch.manual_seed(0)
    net = torchvision.models.get_model(options.net, num_classes=5).eval().to(options.device)
    images = torch.rand(options.num, 3, options.size, options.size, device=options.device)
    print(
        f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, {options.net}, "
        f"{options.num} images of {options.size} px"
    )
    {"nine": nine, "costs": costs, "libraries": libraries, "memory": memory}[options.case](net, images, options)


# ------------------------------------------------------------------------------------------------------- nine and limit


def nine(net: nn.Module, images: Tensor, options: argparse.Namespace) -> None:
    """The nine of Grad-CAM and two fusions of six views, three ways, with equal numbers; and the limit."""
    classifier, methods, metrics = (
        classifier_of(net, options),
        three(),
        [MetricChoice(n, bind("metric", n)) for n in NINE],
    )
    twin = Twin(net, images[:2])
    counted: dict[str, int] = {}

    def alone(image_by_image: bool) -> dict[tuple[str, str], Tensor]:
        rows = [[i] for i in range(len(images))] if image_by_image else [list(range(len(images)))]
        batch = 1 if image_by_image else AT_ONCE
        found: dict[tuple[str, str], list[Tensor]] = {}
        passes = 0
        for part in rows:
            for method in methods:
                for metric in metrics:
                    values, used = measured(classifier, plain(net), images, part, [method], [metric], batch)
                    passes += used
                    for key, value in values.items():
                        found.setdefault(key, []).append(value)
        counted["image by image" if image_by_image else "batched loop"] = passes
        return {key: torch.cat(values) for key, values in found.items()}

    def ours() -> dict[tuple[str, str], Tensor]:
        values, counted["ours"] = measured(
            classifier, twin, images, list(range(len(images))), methods, metrics, AT_ONCE
        )
        return values

    loops = {"batched loop": lambda: alone(False), "image by image": lambda: alone(True)}
    contenders = {"ours": ours, **({} if options.alone else loops)}
    first = {name: run() for name, run in contenders.items()}
    apart = {
        kind: max(
            float((first[name][key] - first["ours"][key]).abs().nan_to_num().max())
            for name in contenders
            for key in first[name]
            if (key[1] in JUMPING) == (kind == "discontinuous")
        )
        for kind in ("continuous", "discontinuous")
    }
    batch = best_batch(twin, images)

    def limit() -> None:
        whole, rest = divmod(counted["ours"], batch)
        for size in [batch] * whole + [rest] * bool(rest):
            twin(images[:1].repeat(size, 1, 1, 1))

    times = turns({**contenders, "limit": limit}, options.rounds)
    show(times, "ours")
    print("largest difference of a number: " + ", ".join(f"{kind} {value:.1e}" for kind, value in apart.items()))
    print("images run: " + ", ".join(f"{name} {count}" for name, count in counted.items()))
    shares = sorted(a / b for a, b in zip(times["limit"], times["ours"], strict=True))
    print(f"limit / ours {statistics.median(shares):.2f} ({shares[0]:.2f}-{shares[-1]:.2f}), batches of {batch}")


def measured(
    classifier: Classifier,
    twin: Callable[[Tensor], Tensor],
    images: Tensor,
    rows: Sequence[int],
    methods: Sequence[Method],
    metrics: Sequence[MetricChoice],
    batch: int,
) -> tuple[dict[tuple[str, str], Tensor], int]:
    """Main column of each method and metric on some images, maps made first; and the images that were run."""
    part, ids = images[list(rows)], [str(row) for row in rows]
    with shared_forwards(classifier, batch=batch, twin=twin, lasting=True):
        logits = torch.cat([twin(some) for some in part.split(batch)]).double()
        targets, counter = logits.argmax(1), MapPasses()
        maps = explain_batch(classifier, part, targets, methods, ids=ids, seed=SEED, passes=counter)
        masks = torch.zeros(len(rows), *part.shape[-2:], dtype=torch.bool, device=part.device)
        masks[:, 10:30, 20:50] = True
        everything = torch.ones(len(rows), dtype=torch.bool, device=part.device)
        engine = Engine(classifier, twin, seed=SEED, batch=batch)
        engine.start(Block(part, ids, ids, targets, logits, masks, everything, everything))
        tasks = []
        for method in methods:
            made = maps[str(method.name)].maps
            case = engine.case(method, made)
            tasks += [engine.task(case, metric, status_of(made)) for metric in metrics]
        results = engine.run(tasks)
    keys = [(str(method.name), metric.label) for method in methods for metric in metrics]
    values = {key: result.columns[key[1]] for key, result in zip(keys, results, strict=True)}
    return values, len(rows) + counter.images + engine.passes.used + engine.passes.maps


def best_batch(twin: Twin, images: Tensor) -> int:
    """The batch of 1 to 32 at which the twin takes least for an image."""
    best: dict[int, float] = {}
    for batch in (1, 4, 8, 16, 32):
        many = images[:1].repeat(batch, 1, 1, 1)
        twin(many)
        times = []
        for _ in range(3):
            start = clock(images)
            twin(many)
            times.append((clock(images) - start) / batch)
        best[batch] = statistics.median(times)
    return min(best, key=best.__getitem__)


# --------------------------------------------------------------------------------------------------------------- costs


def costs(net: nn.Module, images: Tensor, options: argparse.Namespace) -> None:
    """Seconds and images run, for one image and one map, of every metric alone."""
    classifier, method = classifier_of(net, options), three()[0]
    twin = Twin(net, images[:2])
    others = OtherWeights(classifier, images)
    logits = torch.cat([twin(some) for some in images.split(AT_ONCE)]).double()
    ids, everything = (
        [str(i) for i in range(len(images))],
        torch.ones(len(images), dtype=torch.bool, device=images.device),
    )
    masks = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)
    masks[:, 10:30, 20:50] = True
    block = Block(images, ids, ids, logits.argmax(1), logits, masks, everything, everything)
    maps = explain_batch(classifier, images, block.targets, [method], ids=ids, seed=SEED)[str(method.name)].maps
    print(f"{'metric':<26} {'ms an image':>12} {'images run':>11}")
    for name, choice in choices("metric").items():
        needs = set(choice.facts.get("needs", ()))
        if choice.facts.get("pairs") or choice.facts.get("protocol") or needs & {"spread", "validation"}:
            continue
        if "labels" in choice.facts.get("reruns", ()):
            continue
        times, used = [], 0
        for _ in range(options.rounds):
            engine = Engine(classifier, twin, seed=SEED, batch=AT_ONCE, others=others)
            engine.start(block)
            case = engine.case(method, maps)
            start = clock(images)
            engine.run([engine.task(case, MetricChoice(name, bind("metric", name)), status_of(maps))])
            times.append((clock(images) - start) / len(images))
            used = (engine.passes.used + engine.passes.maps) // len(images)
        print(f"{name:<26} {1e3 * statistics.median(times):>12.2f} {used:>11}", flush=True)


# --------------------------------------------------------------------------------------------------------------- suite

TEN = (
    *("gradcam", "gradcam_plus_plus", "xgradcam", "hirescam", "layercam", "elementwise", "eigencam"),
    *("eigengradcam", "saliency", "input_x_gradient"),
)


def suite(options: argparse.Namespace) -> None:
    """`metrics=all` of ten explainers and five controls on the phantom, a net of random weights: maps and numbers."""
    folder = tempfile.TemporaryDirectory()
    torch.manual_seed(0)
    net = torchvision.models.get_model(options.net, num_classes=3)
    torch.save(net.state_dict(), weights := Path(folder.name) / "random.pth")
    overrides = [
        f"model={options.net}", "train=none", f"model.weights={weights}", "metrics=all", "views=none",
        f"explainer=[{','.join(TEN)}]", "controls=[random,random_pixels,centre,edge,shifted]", "dataset.num_images=60",
        f"dataset.size={options.size}", f"eval.images={options.num}", f"device={options.device}",
    ]  # fmt: skip
    plan = make_plan(compose(overrides)[0].config, overrides)
    with folder:
        store = Store(Path(folder.name))
        samples = load(plan.dataset, plan.load, store)
        classifier = train(samples, plan.model, plan.train, plan.compute, store, progress=False)
        predictions = predict(
            samples, classifier, plan.eval, dataset_seed=plan.load.seed, compute=plan.compute, progress=False
        )
        images = samples.images(predictions.explained[:1], classifier.device)
        twin = Twin(classifier.module, images)
        batch = best_batch(twin, images)
        before = seconds_of(twin, images, batch)
        start = clock(images)
        maps = explain(
            samples, classifier, predictions, plan.methods, plan.explain, protocol="sound", store=store, progress=False
        )
        scores = measure(
            samples, classifier, maps, plan.metrics, plan.measure, plan.eval, store=store, progress=False,
            batch=images_at_once(classifier.device, options.size), estimate=plan.passes,
        )  # fmt: skip
        took = clock(images) - start
        one = (before + seconds_of(twin, images, batch)) / 2
    used = passes_of(maps.passes, scores.passes)
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, {options.net}")
    print(f"{len(maps.methods)} methods, {len(plan.metrics)} metrics, {len(scores.table)} values; passes {used}")
    print(
        f"{took / options.num:.1f} s an image; twin {1e3 * one:.2f} ms an image in batches of {batch}; "
        f"limit / ours {used['used'] * one / took:.2f}"
    )


def seconds_of(twin: Twin, images: Tensor, batch: int) -> float:
    """Median seconds of the twin for an image of ten batches."""
    many, times = images[:1].repeat(batch, 1, 1, 1), []
    for _ in range(10):
        start = clock(images)
        twin(many)
        times.append((clock(images) - start) / batch)
    return statistics.median(times)


# ----------------------------------------------------------------------------------------------------------- libraries


def libraries(net: nn.Module, images: Tensor, options: argparse.Namespace) -> None:
    """Largest sensitivity beside captum's on the same noise, and ROAD beside pytorch-grad-cam's."""
    from captum.metrics import sensitivity_max
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from heatproof.base.methods import jittered

    classifier, method, twin = classifier_of(net, options), three()[0], Twin(net, images[:2])
    settings = bind("metric", "max_sensitivity").settings
    count, radius = int(settings["noises"]), float(settings["radius"])
    ids, targets = [str(i) for i in range(len(images))], twin(images).argmax(1)

    def ours(name: str, more: dict[str, object] | None = None) -> Tensor:
        choice = MetricChoice(name, bind("metric", name, more))
        values, _ = measured(classifier, twin, images, range(len(images)), [method], [choice], AT_ONCE)
        return values[str(method.name), name]

    def centred(given: tuple[Tensor, ...] | Tensor, **_: object) -> tuple[Tensor]:
        inputs = given[0] if isinstance(given, tuple) else given
        # captum repeats each image for its noises.
        of = targets.repeat_interleave(len(inputs) // len(targets))
        names = [str(i) for i in range(len(inputs))]
        made = explain_batch(classifier, inputs, of, [method], ids=names, seed=SEED)[str(method.name)].maps
        return ((made - made.mean((1, 2), keepdim=True))[:, None],)

    def noises(given: tuple[Tensor, ...] | Tensor) -> Tensor:
        inputs = given[0] if isinstance(given, tuple) else given
        each = [jittered(images, ids, SEED, n, radius) for n in range(len(inputs) // len(images))]
        return torch.stack(each, 1).flatten(0, 1)

    def theirs() -> Tensor:
        return sensitivity_max(
            centred, images, noises, n_perturb_samples=count, max_examples_per_batch=count * len(images)
        )

    print(
        f"max_sensitivity, largest difference to captum {float((ours('max_sensitivity') - theirs()).abs().max()):.1e}"
    )
    show(turns({"ours": lambda: ours("max_sensitivity"), "captum": theirs}, options.rounds), "ours")

    maps = explain_batch(classifier, images, targets, [method], ids=ids, seed=SEED)[str(method.name)].maps
    grey = np.asarray(maps.cpu())
    road = ROADCombined(percentiles=[20, 40, 60, 80])
    wanted = [ClassifierOutputTarget(int(t)) for t in targets]
    print("road (its noise is drawn elsewhere, so numbers differ)")
    show(
        turns(
            {"ours": lambda: ours("road"), "pytorch-grad-cam": lambda: road(images, grey, wanted, net)}, options.rounds
        ),
        "ours",
    )
    quantus_cases(net, images, options)


class Grey(nn.Module):
    """The net on images of one channel: of several, Quantus flips single channels of a pixel."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images.expand(-1, 3, -1, -1))
        return logits


def quantus_cases(net: nn.Module, images: Tensor, options: argparse.Namespace) -> None:
    """Region perturbation in 8 x 8 cells and pixel flipping in 32 steps beside Quantus."""
    import quantus

    grey, images = Grey(net).eval(), images[:, :1].contiguous()
    layers, method = (f"net.{LAYERS[options.net]}",), three()[0]
    classifier = Classifier(grey, tuple("abcde"), layers, "bench", train_mean=(0.0,), norm_mean=(0.0,), norm_std=(1.0,))
    twin, rows = Twin(grey, images[:2]), range(len(images))
    p, targets = twin(images).double().softmax(1).max(1)
    ids = [str(row) for row in rows]
    maps = explain_batch(classifier, images, targets, [method], ids=ids, seed=SEED)[str(method.name)].maps
    quiet = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False}
    given = {
        "model": grey, "x_batch": images.cpu().numpy(), "y_batch": targets.cpu().numpy(), "softmax": True,
        "a_batch": maps[:, None].cpu().numpy(), "channel_first": True, "device": options.device,
    }  # fmt: skip
    side, pixels = options.size // 8, options.size**2 // 32
    regions = quantus.RegionPerturbation(patch_size=side, regions_evaluation=64, perturb_baseline=0.0, **quiet)
    flipping = quantus.PixelFlipping(features_in_step=pixels, perturb_baseline=0.0, **quiet)

    def area() -> np.ndarray:
        return np.trapezoid(np.concatenate([p[:, None].cpu().numpy(), flipping(**given)], 1), dx=1 / 32, axis=1)

    for name, more, theirs in (
        ("aopc_morf", {"grid": 8, "fill": "black"}, lambda: np.sum(regions(**given), axis=1) / 65),
        ("deletion", {"steps": 32, "fill": "black"}, area),
    ):
        choice = MetricChoice(name, bind("metric", name, more))

        def ours(choice: MetricChoice = choice) -> np.ndarray:
            values, _ = measured(classifier, twin, images, rows, [method], [choice], AT_ONCE)
            return values[str(method.name), choice.label].cpu().numpy()

        print(f"{name}, largest difference to Quantus {np.abs(ours() - theirs()).max():.1e}")
        show(turns({"ours": ours, "quantus": theirs}, options.rounds), "ours")


# -------------------------------------------------------------------------------------------------------------- memory


def memory(net: nn.Module, images: Tensor, options: argparse.Namespace) -> None:
    """Peak memory before and after the nine of one method on many images, block by block."""
    classifier, method = classifier_of(net, options), three()[0]
    n, side = len(images), options.size
    pixels = (images.permute(0, 2, 3, 1).cpu().numpy() * 255).astype(np.uint8)
    table = pd.DataFrame({"image": [str(i) for i in range(n)], "group": None, "label": 0, "split": "test"})
    masks = np.zeros((n, side, side), dtype=np.uint8)
    masks[:, 10:30, 20:50] = 1
    samples = Samples(table, pixels, masks, tuple("abcde"), "bench", "random", MEAN)
    found = np.random.default_rng(0).random((n, side, side), dtype=np.float32)
    rows, zeros = np.arange(n), np.zeros(n, dtype=np.int64)
    maps = Maps(rows, zeros, zeros, (method,), {str(method.name): found}, {}, {str(method.name): ("ok",) * n})
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        measure(
            samples, classifier, maps, [MetricChoice(name, bind("metric", name)) for name in NINE],
            MeasureSettings(SEED, "signed", "sound", ("shifted",)), EvalSettings("test", None, False, None, 0, 1),
            store=Store(Path(folder)), batch=AT_ONCE, progress=False,
        )  # fmt: skip
    print(f"{n} images: peak {before:.2f} GiB with images and maps in memory, {peak():.2f} GiB after the nine metrics")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# -------------------------------------------------------------------------------------------------------------- shared


def three() -> list[Method]:
    """Grad-CAM, and its mean and median over six views."""
    views = tuple(preset("view", name) for name in VIEWS)
    fused = [
        Method(
            MethodName("gradcam", None, "six", fusion),
            bind("explainer", "gradcam"),
            None,
            views,
            preset("fusion", fusion),
        )
        for fusion in ("mean", "median")
    ]
    return [Method(MethodName("gradcam"), bind("explainer", "gradcam")), *fused]


def classifier_of(net: nn.Module, options: argparse.Namespace) -> Classifier:
    layer = LAYERS[options.net]
    return Classifier(net, tuple("abcde"), (layer,), "bench", train_mean=MEAN, norm_mean=MEAN, norm_std=STD)


def plain(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """The net as it is, without autograd."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = net(images)
            return logits

    return run


def clock(images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def turns(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round, one after the other."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.process_time() if not torch.cuda.is_available() else time.perf_counter()
            run()
            end = time.process_time() if not torch.cuda.is_available() else time.perf_counter()
            times[name].append(end - start)
    return times


def show(times: dict[str, list[float]], reference: str) -> None:
    for name, found in times.items():
        ratios = sorted(a / b for a, b in zip(found, times[reference], strict=True))
        print(
            f"{name:<18} {statistics.median(found):8.3f} s ({min(found):.3f}-{max(found):.3f})   "
            f"x {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
