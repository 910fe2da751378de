"""The plan: methods and controls, metrics, counts, hash, and every fault of a config at once."""

from pathlib import Path

import pytest
from commands import class_folders

from heatproof.base import compose
from heatproof.base.errors import HeatproofError
from heatproof.stages.plan import Plan, make_plan, plan_text

QUICK = "dataset.num_images=60"


def planned(*overrides: str) -> Plan:
    (job,) = compose.compose([QUICK, *overrides])
    return make_plan(job.config, job.overrides)


def faults(*overrides: str) -> list[str]:
    with pytest.raises(HeatproofError) as raised:
        planned(*overrides)
    return list(raised.value.faults)


# ---- what is planned -------------------------------------------------------------------------------------------------


def test_methods_under_test_come_first_then_their_controls() -> None:
    methods = planned().methods
    assert [(str(m.name), m.control_of, m.alter) for m in methods] == [
        ("gradcam", None, None),
        ("gradcam:robustcam6.mean", None, None),
        ("gradcam:robustcam6.median", None, None),
        ("shifted-gradcam", "gradcam", "shifted"),
        ("shifted-gradcam:robustcam6.mean", "gradcam:robustcam6.mean", "shifted"),
        ("shifted-gradcam:robustcam6.median", "gradcam:robustcam6.median", "shifted"),
        ("blurred-gradcam:robustcam6.mean", "gradcam:robustcam6.mean", "blurred"),
        ("blurred-gradcam:robustcam6.median", "gradcam:robustcam6.median", "blurred"),
        ("random", "all", None),
        ("centre", "all", None),
        ("edge", "all", None),
    ]
    assert [view.name for view in methods[1].views] == ["identity", "flip", "rotate", "colour_jitter", "gaussian_blur", "greyscale"]  # fmt: skip  # noqa: E501
    assert methods[1].fusion is not None
    assert methods[1].fusion.name == "mean"
    assert methods[6].views == (), "the blurred control is the single view"


def test_the_name_of_a_run_says_what_was_asked_for() -> None:
    plan = planned("model=resnet18", "seed=2", "train.lr=0.01", "device=cpu", "tracking.experiment=e")
    assert plan.tracked()["run_name"] == "phantom_resnet18 dataset.num_images=60 seed=2 train.lr=0.01"
    assert planned("tracking.run_name=mine", "seed=2").tracked()["run_name"] == "mine"
    long = planned(*(f"dataset.n={n}" for n in range(600, 640))).title()
    assert len(long) == 120
    assert long.endswith("...")


def test_layers_views_and_fusion_of_one_explainer() -> None:
    plan = planned(
        "explainer=[gradcam,gradcam_plus_plus]",
        "explainer.gradcam.layer=[stage2,stage3]",
        "explainer.gradcam.views=none",
        "explainer.gradcam_plus_plus.views=robustcam8",
        "explainer.gradcam_plus_plus.fusion=median",
        "controls=[edge]",
    )
    assert [str(m.name) for m in plan.methods] == [
        "gradcam.stage2",
        "gradcam.stage3",
        "gradcam_plus_plus",
        "gradcam_plus_plus:robustcam8.median",
        "edge",
    ]
    assert len(plan.methods[3].views) == 8
    assert [dict(v.settings) for v in plan.methods[3].views if v.name == "rotate"] == [{"angle": 15}, {"angle": -15}, {"angle": 10}]  # fmt: skip  # noqa: E501


def test_a_control_among_the_explainers_keeps_its_settings_and_stays_one_row() -> None:
    plan = planned("explainer=[gradcam,random]", "explainer.random.grid=4", "views=none")
    (random,) = [m for m in plan.methods if str(m.name) == "random"]
    assert random.control_of == "all"
    assert random.explainer.settings["grid"] == 4


def test_metrics_with_their_labels_and_equal_identities_once() -> None:
    plan = planned("metrics=[nine,localisation]", "+metric@metrics.mine.other=faith", "metrics.mine.other.q=0.1")
    labels = [choice.label for choice in plan.metrics]
    nine = ["faith", "faith_mean", "loc_acc", "consist_iou", "fidelity", "fidelity_mean", "stability", "consist_pearson", "view_variance", "view_iou", "view_spearman"]  # fmt: skip  # noqa: E501
    assert labels[:11] == nine
    assert labels[-1] == "other"
    assert labels.count("loc_acc") == 1, "the suite of localisation has it, too"
    assert {"pointing_game", "iou_05", "iou_50", "pixel_auc"} < set(labels)
    assert len({choice.identity for choice in plan.metrics}) == len(labels)


@pytest.mark.parametrize(
    ("views", "counted"),
    [
        ("none", ["shift", "rotation", "scale", "photometric"]),
        ("robustcam6", ["shift", "scale"]),
        ("robustcam10", ["shift"]),
    ],
)
def test_view_metrics_count_no_family_that_a_fusion_uses(views: str, counted: list[str]) -> None:
    plan = planned(f"views={views}")
    families = {c.label: list(c.metric.settings["families"]) for c in plan.metrics if c.label.startswith("view_")}
    assert families == dict.fromkeys(["view_variance", "view_iou", "view_spearman"], counted)
    assert any("not counted" in text for text in plan.warnings) == (views != "none")
    noise = {c.label: c.metric.settings["families"] for c in plan.metrics if "noise_std" in c.metric.settings}
    assert all(list(counted) == ["noise"] for counted in noise.values()), "no view is of the noise family"


def test_the_study_protocol_takes_the_studys_variants() -> None:
    plan = planned("protocol=study", "views=robustcam10", "metrics.nine.faith.q=0.3")
    assert [choice.metric.name for choice in plan.metrics] == ["faith_study", "loc_acc_study", "consist_iou_study", "fidelity_study", "stability_study", "consist_pearson_study", "view_variance_study", "view_iou_study", "view_spearman_study"]  # fmt: skip  # noqa: E501
    assert [choice.label for choice in plan.metrics][:2] == ["faith", "loc_acc"]
    fused = plan.methods[1]
    assert fused.fusion is not None
    assert fused.fusion.name == "mean_study"
    assert str(fused.name) == "gradcam:robustcam10.mean"
    assert [view.name for view in fused.views if view.name.endswith("_study")] == ["rotate_study"] * 3 + ["centre_crop_study"]  # fmt: skip  # noqa: E501
    assert any("metrics.nine.faith.q has no effect" in text for text in plan.warnings)


def test_counts_are_those_of_the_splits() -> None:
    counts = planned("dataset.n=30", "dataset.fractions=[0.5,0.25,0.25]").counts
    assert list(counts) == ["train", "val", "test"]
    assert sum(sum(row.values()) for row in counts.values()) == 30
    assert set(counts["train"]) == {"no_nodule", "smooth", "spiculated"}
    assert counts["train"] == dict.fromkeys(counts["train"], 5)


def test_the_text_says_what_will_be_done() -> None:
    plan = planned("views=none")
    text = plan_text(plan)
    for part in (
        "plan " + plan.hash,
        "phantom, 1 x 64 x 64 px",
        "gradcam",
        "1 shifted copies",
        "view_spearman",
        "passes",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 120


def test_passes_by_hand() -> None:
    # 12 images. loc_acc asks for nothing; faith for one perturbed image of each map. One pass makes the map, random,
    # centre and edge need none, and four shifted copies of the one tested map are perturbed, too. box_iou looks at the
    # maps of the validation images.
    plan = planned("views=none", "metrics=[localisation]", "+metric@metrics.mine.faith=faith")
    images = 12
    assert sum(plan.counts["test"].values()) == images
    validation = sum(plan.counts["val"].values())
    assert plan.passes == images * (1 + (1 + 3) + 4) + validation
    third = planned("views=none", "metrics=[localisation]", "+metric@metrics.mine.faith=faith", "eval.shards=3")
    assert third.passes - validation == (plan.passes - validation) / 3


def test_names_that_yaml_reads_as_something_else(tmp_path: Path) -> None:
    assert planned("target=true").explain.target == "true"
    root = class_folders(tmp_path, "0", "1", "2")
    (job,) = compose.compose(["dataset=image_folder", f"dataset.root={root}", "dataset.classes=[1,0]", "target=0"])
    plan = make_plan(job.config)
    assert plan.load.classes == ("1", "0")
    assert plan.explain.target == "0"


def test_the_positive_class_is_one_of_two(tmp_path: Path) -> None:
    root = class_folders(tmp_path, "0", "1")
    data = ["dataset=image_folder", f"dataset.root={root}"]
    (job,) = compose.compose([*data, "eval.positive=0"])
    assert make_plan(job.config).eval.positive == "0"
    with pytest.raises(HeatproofError, match=r"eval\.positive: no such class, got '2'"):
        make_plan(compose.compose([*data, "eval.positive=2"])[0].config)
    with pytest.raises(HeatproofError, match=r"eval\.positive: only of two classes one is positive"):
        planned("eval.positive=smooth")


# ---- the hash --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("override", ["device=cpu", "explain.batch=3", "report.maps=true", "tracking.experiment=x", "name=x", "train.checkpoint=false", "stage=load", "sweep.fail_fast=true"])  # fmt: skip  # noqa: E501
def test_the_hash_does_not_see_what_decides_no_number(override: str) -> None:
    assert planned(override).hash == planned().hash


@pytest.mark.parametrize("override", ["seed=1", "model.width=8", "train.batch=8", "dataset.noise=0.1", "views=robustcam8", "eval.images=5", "sign=absolute", "target=true", "precision=bf16", "metrics.nine.faith.q=0.3", "explainer.gradcam.relu=false", "controls=[random]"])  # fmt: skip  # noqa: E501
def test_the_hash_sees_what_decides_a_number(override: str) -> None:
    assert planned(override).hash != planned().hash


def test_the_hash_does_not_see_where_files_lie(tmp_path: Path) -> None:
    hashes = set()
    for place in ("here", "there"):
        root = class_folders(tmp_path / place, "a", "b")
        weights = tmp_path / place / "w.pth"
        weights.write_bytes(b"12")
        (job,) = compose.compose(["dataset=image_folder", f"dataset.root={root}", "model=resnet18", "train=finetune", f"model.weights={weights}"])  # fmt: skip  # noqa: E501
        hashes.add(make_plan(job.config).hash)
    assert len(hashes) == 1


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED = [
    ("protocol=sond", "protocol: no such option, got 'sond'. Did you mean 'sound'?"),
    ("device=gpu", "device: no such device, got 'gpu'"),
    ("stage=trian", "stage: no such option, got 'trian'. Did you mean 'train'?"),
    ("deterministic=1", "deterministic: true or false is expected, got 1"),
    ("seed=a", "seed: a whole number is expected, got 'a'"),
    ("seed=-1", "seed: must be 0 to 2^63 - 1, got -1"),
    ("seed=9223372036854775808", "seed: must be 0 to 2^63 - 1, got 9223372036854775808"),
    ("dataset.seed=9223372036854775808", "dataset.seed: must be 0 to 2^63 - 1, got 9223372036854775808"),
    ("dataset.fractions=[0.5,0.2,0.2]", "dataset.fractions: must be not negative, and 1 in sum"),
    ("dataset.fractions=[0.5,0.5]", "dataset.fractions: a list of 3 values"),
    ("dataset.size=4", "dataset.size: must be 8 to 4096 pixels, got 4"),
    ("dataset.channels=2", "dataset.channels: must be 1 or 3, got 2"),
    ("dataset.cap=smalest", "dataset.cap: must be at least 1, or 'smallest', got 'smalest'"),
    ("dataset.classes=[smoth]", "dataset.classes: no such class, got 'smoth'. Did you mean 'smooth'?"),
    ("dataset.split=study", "dataset.split: the data have no study split"),
    ("dataset.split=official", "dataset.split: the data have no official split"),
    ("dataset.split=/no/samples.parquet", "dataset.split: no such file"),
    ("+dataset.csv=x", "dataset.csv: no such key, got 'csv'"),
    ("model.width=1.5", "model.width: a whole number is expected, got 1.5"),
    ("model.dropout=1", "model.dropout: must be 0 or more and below 1, got 1.0"),
    ("model.builder=smal_cnn", "model: no such model, got 'smal_cnn'. Did you mean 'small_cnn'?"),
    ("train.epochs=0", "train.epochs: must be at least 1, got 0"),
    ("train.lr=0", "train.lr: must be above 0, got 0.0"),
    ("train.optimizer=adma", "train.optimizer: no such option, got 'adma'. Did you mean 'adam'?"),
    ("train.augment=[flp]", "train.augment: no such option, got 'flp'. Did you mean 'flip'?"),
    ("train=none", "train: train=none explains a net as it is, and there are no weights"),
    ("eval.split=tets", "eval.split: no such option, got 'tets'. Did you mean 'test'?"),
    ("eval.shard=1", "eval.shard: shards are counted from 0 to eval.shards - 1 = 0, got 1"),
    ("target=nodule", "target: no such class, got 'nodule'"),
    ("target=[a]", "target: text is expected, got ['a']"),
    ("controls=[randm]", "controls: no such control, got 'randm'. Did you mean 'random'?"),
    ("explainer=[]", "explainer: at least one explainer is needed"),
    ("explainer.gradcam.relu=1", "explainer.gradcam.relu: true or false is expected, got 1"),
    ("explainer.gradcam.views=robustcam7", "explainer.gradcam.views: no such set of views, got 'robustcam7'"),
    ("explainer.gradcam.method=gradcm", "explainer: no such explainer, got 'gradcm'. Did you mean 'gradcam'?"),
    ("explainer=[lime] explainer.lime.segmentation=slick", "got 'slick'. Did you mean 'slic'?"),
    ("explainer=[occlusion] explainer.occlusion.fill=noise", "got 'noise'. There are: gray, black, mean, blur, normal"),
    ("explainer.gradcam.rerun_images=4", "explainer.gradcam.rerun_images: not per explainer yet"),
    ("views.fusion=[]", "views.fusion: views need a fusion"),
    ("views.fusion=[meen]", "fusion: no such file in conf/fusion, got 'meen'. Did you mean 'mean'?"),
    ("views.rotate_p15.angle=x", "views.rotate_p15.angle: a number is expected, got 'x'"),
    ("metrics=[]", "metrics: at least one metric is needed"),
    ("metrics.nine.faith.q=1", "metrics.nine.faith.q: must be between 0 and 1, both excluded, got 1.0"),
    ("metrics.nine.faith.fill=rod", "metrics.nine.faith.fill: no such option, got 'rod'. Did you mean 'road'?"),
    ("metrics.nine.stability.noises=0", "metrics.nine.stability.noises: must be at least 1, got 0"),
    ("+metrics.nine.faith.p=1", "metrics.nine.faith.p: no such key, got 'p'"),
    ("report.alphas=[2]", "report.alphas: must be numbers from 0 to 1, got (2.0,)"),
    ("report.alphas=[]", "report.alphas: must be numbers from 0 to 1, got ()"),
    ("model=mlp model.widths=[8,0]", "model.widths: must be numbers from 1 on, got (8, 0)"),
    ("views=geometric +view@views.more=shift views.more.dx=2", "views.more.dx: must be between -1 and 1"),
    ("report.runs=x", "report.runs: earlier runs are reported, or sent, not run again, got 'x'"),
    ("+foo=1", "foo: no such key, got 'foo'"),
    ("~train", "train.epochs: the key is missing"),
    ("train=3", "no such option"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "message"), REFUSED, ids=[override for override, _ in REFUSED])
def test_a_fault_names_value_rule_and_choices(override: str, message: str) -> None:
    assert message in "\n".join(faults(*override.split()))


def test_all_faults_are_shown_at_once() -> None:
    found = faults(
        "train.epochs=0", "model.width=x", "metrics.nine.faith.q=2", "eval.shard=9", "device=gpu", "target=x"
    )
    assert [text.partition(":")[0] for text in found] == ["device", "model.width", "train.epochs", "target", "metrics.nine.faith.q", "eval.shard"]  # fmt: skip  # noqa: E501


def test_one_label_for_two_metrics_is_refused() -> None:
    (found,) = faults("+metric@metrics.mine.faith=faith", "metrics.mine.faith.q=0.1")
    assert "metrics.mine.faith: another metric has this label: metrics.nine.faith" in found


def test_frozen_training_needs_weights_and_weights_need_a_file(tmp_path: Path) -> None:
    assert "train=frozen keeps the weights of the backbone" in faults("model=resnet18", "train=frozen")[0]
    assert "model.weights: no such file" in faults("model=resnet18", f"model.weights={tmp_path}/no.pth")[0]
    assert planned("model=resnet18", "train=frozen", "model.weights=imagenet").model.settings["weights"] == "imagenet"


def folder_faults(root: Path, *overrides: str) -> list[str]:
    with pytest.raises(HeatproofError) as raised:
        compose.command(
            ["dataset=image_folder", f"dataset.root={root}", *overrides], check=lambda j: make_plan(j.config)
        )
    return list(raised.value.faults)


@pytest.mark.parametrize("root", ["", "null"])
def test_a_root_that_is_not_given_is_not_the_current_folder(root: str) -> None:
    with pytest.raises(HeatproofError, match=r"^dataset\.root: image_folder reads files, so it needs their folder"):
        compose.command(["dataset=image_folder", f"dataset.root={root}"], check=lambda j: make_plan(j.config))


def test_folders_of_images(tmp_path: Path) -> None:
    assert "dataset.root: no such folder" in folder_faults(tmp_path / "nope")[0]
    root = class_folders(tmp_path / "data", "benign", "malignant")
    (root / "empty").mkdir()
    assert "empty" in folder_faults(root)[0]
    (root / "empty").rmdir()
    assert "every metric of it needs masks" in folder_faults(root, "metrics=[localisation]")[0]
    (job,) = compose.compose(["dataset=image_folder", f"dataset.root={root}"])
    assert any("loc_acc: undefined" in text for text in make_plan(job.config).warnings)
    (job,) = compose.compose(["dataset=image_folder"])
    with pytest.raises(HeatproofError, match=r"dataset\.root: image_folder reads files"):
        make_plan(job.config)


def test_a_net_without_layers_gets_an_explainer_that_fits_or_the_chosen_one_is_refused():
    def plan_of(*overrides):
        (job,) = compose.compose(["model=mlp", "dataset.num_images=60", *overrides])
        return make_plan(job.config, job.overrides)

    plan = plan_of()
    assert {method.name.label for method in plan.methods if method.control_of is None} == {"occlusion"}
    assert "mlp has no layer that gradcam could look at" in plan.warnings[0]
    assert make_plan(plan.config).hash == plan.hash
    with pytest.raises(
        HeatproofError, match=r"gradcam looks at a layer's place in the image, and the model mlp has no"
    ):
        plan_of("explainer=[gradcam,occlusion]")
    with pytest.raises(HeatproofError, match="fullgrad sums up convolutions, and the model mlp has none"):
        plan_of("explainer=[fullgrad]")
    with pytest.raises(HeatproofError, match=r"chefer looks at a transformer's attention, and the model mlp has none"):
        plan_of("explainer=[chefer]")
    plan = plan_of("explainer=[saliency,integrated_gradients]")
    assert {m.name.label for m in plan.methods if m.control_of is None} == {"saliency", "integrated_gradients"}


def test_votes_are_made_of_methods_of_the_run_or_of_explainers_as_shipped():
    plan = planned("explainer=[gradcam,votes]", "explainer.gradcam.relu=false", "explainer.votes.of=[gradcam:robustcam6.mean,occlusion]")  # fmt: skip  # noqa: E501
    names = [str(method.name) for method in plan.methods if method.control_of is None]
    assert names == ["gradcam", "gradcam:robustcam6.mean", "gradcam:robustcam6.median", "votes"]
    fused, other = next(method for method in plan.methods if str(method.name) == "votes").of
    assert fused.explainer.settings["relu"] is False
    assert len(fused.views) == 6
    assert other.explainer.name == "occlusion"
    assert any(str(method.name) == "shifted-votes" and method.of for method in plan.methods)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["explainer.votes.of=[gradcam,limes]"], r"votes\.of.*'limes'.*Did you mean 'lime'"),
        (["explainer.votes.of=[gradcam]"], r"votes\.of.*at least two"),
        (["explainer.votes.of=[gradcam,gradcam]"], r"votes\.of.*twice"),
        (["explainer.votes.views=robustcam6"], r"votes\.views.*not made anew"),
        (["+explainer.gradcam.of=[lime,shap]"], r"gradcam\.of.*made of no other"),
    ],
)
def test_what_votes_cannot_be_made_of_is_refused(overrides, match):
    with pytest.raises(HeatproofError, match=match):
        planned("explainer=[gradcam,votes]", *overrides)


def test_maps_made_elsewhere_need_a_folder_that_holds_some(tmp_path):
    for value in ("null", tmp_path / "nowhere", tmp_path):
        with pytest.raises(HeatproofError, match=r"files\.folder"):
            planned("explainer=[files]", f"explainer.files.folder={value}")
    (tmp_path / "a.npy").touch()
    plan = planned("explainer=[files]", f"explainer.files.folder={tmp_path}")
    assert [str(m.name) for m in plan.methods if m.control_of is None] == ["files"]


def test_explainers_that_run_the_net_themselves_are_counted():
    few = ["dataset.size=64", "controls=[]", "metrics=[localisation]", "views=none", "eval.images=10"]
    plain = planned(*few).passes
    windows = len({*range(0, 45, 10), 44}) ** 2
    many = ["explainer=[gradcam,rise,occlusion,votes]", "explainer.votes.of=[rise,lime]", "explainer.rise.samples=300"]
    images = plain  # one pass an image for Grad-CAM, validation images of box_iou among them
    assert planned(*few, *many).passes == images * (1 + 300 + windows + 500)


def test_views_of_ones_own_on_the_command_line():
    plan = planned("views=none", "+view@views.left=flip", "+view@views.big=magnify", "views.big.factor=1.2", "views.fusion=[mean]", "views.name=mine")  # fmt: skip  # noqa: E501
    method = next(method for method in plan.methods if str(method.name) == "gradcam:mine.mean")
    assert [view.name for view in method.views] == ["flip", "magnify"]
    assert method.views[1].settings["factor"] == 1.2


@pytest.mark.parametrize(("name", "count"), [("geometric", 7), ("photometric", 6), ("noise", 8), ("crops", 8)])
def test_views_of_a_set_differ(name, count):
    plan = planned(f"views={name}")
    views = next(method.views for method in plan.methods if method.views)
    assert len({str(view.identity()) for view in views}) == len(views) == count
    entry = planned("explainer=[gradcam]", f"explainer.gradcam.views={name}")
    assert next(method.views for method in entry.methods if method.views) == views


def test_all_is_every_suite_once_and_needs_no_masks(tmp_path: Path) -> None:
    plan = planned("metrics=[all]")
    labels = [choice.label for choice in plan.metrics]
    assert len(labels) == len(set(labels))
    assert {"faith", "abpc_road", "equivariance", "iou_best", "gini", "view_iou", "max_sensitivity"} <= set(labels)
    identities = [choice.identity for choice in plan.metrics]
    assert len(identities) == len(set(identities))
    where = ("dataset=image_folder", f"dataset.root={class_folders(tmp_path / 'images', 'a', 'b')}")
    (job,) = compose.compose([*where, "metrics=[all]"])
    warnings = make_plan(job.config, job.overrides).warnings
    assert any("pixel_auc" in line and "no masks" in line for line in warnings)
    (job,) = compose.compose([*where, "metrics=[localisation]"])
    with pytest.raises(HeatproofError, match="every metric of it needs masks"):
        make_plan(job.config, job.overrides)


def test_the_worth_of_the_order_is_for_metrics_of_the_order() -> None:
    plan = planned("+metrics.nine.faith.qge=true")
    assert [choice.label for choice in plan.metrics if choice.qge] == ["faith"]
    for override, message in (
        ("+metrics.nine.stability.qge=true", "does not look at the order of one map"),
        ("+metrics.nine.faith.qge=3", "true or false is expected, got 3"),
    ):
        assert message in " ".join(faults(override))


def test_controls_on_request() -> None:
    plan = planned("controls=[random_pixels,prior,other_class,random_weights]", "views=none")
    assert [(str(m.name), m.control_of, m.alter) for m in plan.methods] == [
        ("gradcam", None, None),
        ("other_class-gradcam", "gradcam", "other_class"),
        ("random_weights-gradcam", "gradcam", "random_weights"),
        ("random_pixels", "all", None),
        ("prior", "all", None),
    ]


@pytest.mark.parametrize(
    ("override", "wrong"),
    [
        ("metrics.faithfulness.idsds.grid=65", "metric idsds.grid: more cells than the 64 pixels of a side, got 65"),
        ("metrics.faithfulness.abpc_blur.grid=400", "metric abpc_blur.grid: more cells than the 64 pixels"),
        ("metrics.faithfulness.faithfulness_correlation.size=197", "size: a subset of more cells than the 14 x 14"),
        ("metrics.faithfulness.infidelity.smallest=0.5", "smallest: above `largest`, which is 0.25, got 0.5"),
        ("metrics.faithfulness.aopc_morf.steps=82", "metric aopc_morf.steps: more than the 9 x 9 cells"),
        ("metrics.faithfulness.deletion.steps=4097", "metric deletion.steps: more than the 64 x 64 pixels"),
        ("explainer.occlusion.patch=65", "explainer occlusion.patch: larger than the images, which have 64 px a side"),
    ],
)
def test_what_does_not_fit_the_images_is_told_once_and_before_work(override: str, wrong: str) -> None:
    given = ["metrics=[faithfulness]", "explainer=[gradcam,occlusion]", override]
    assert " ".join(faults(*given)).count(wrong) == 1


def test_structural_similarity_needs_its_window() -> None:
    assert "at least 11 px, got 'ssim'" in " ".join(faults("metrics=[agreement]", "dataset.size=10"))
    assert planned("metrics=[agreement]", "dataset.size=16")
