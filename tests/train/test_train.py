from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind, preset
from heatproof.base.settings import LoadSettings, Phase
from heatproof.base.store import Store
from heatproof.base.weights import state_hash
from heatproof.stages.load import load
from heatproof.stages.train import check_net, train
from heatproof.stages.train.tasks import Tasks


def run(store, samples=None, model=None, compute=toy.CPU, **settings):
    samples = samples if samples is not None else toy.samples()
    return train(samples, model or toy.net(), toy.training(**settings), compute, store, progress=False)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def weights(tmp_path):
    """A file of weights of a small torchvision net with a head for seven classes."""
    torch.manual_seed(0)
    net = bind("model", "torchvision", {"name": "shufflenet_v2_x0_5"})(7, 3)
    torch.save(net.state_dict(), tmp_path / "shuffle.pth")
    return str(tmp_path / "shuffle.pth")


def pretrained(weights, name="shufflenet_v2_x0_5"):
    return bind("model", "torchvision", {"name": name, "weights": weights})


def test_it_learns_and_is_taken_from_the_store_afterwards(store):
    samples = toy.samples(90)
    before = torch.get_rng_state()
    first = run(store, samples, epochs=8)
    assert torch.get_rng_state().equal(before)
    assert first.history[-1]["val_accuracy"] == 1.0
    assert first.history[0].keys() >= {"epoch", "train_loss", "val_loss", "val_accuracy", "seconds", "lr"}
    assert not first.module.training
    assert first.trained == sum(weight.numel() for weight in first.module.parameters())
    assert first.layers == ("stage1", "stage2", "stage3")
    assert (first.train_mean, first.norm_mean, first.norm_std) == ((0.3,), (0.5,), (0.25,))
    assert first.remarks == ()
    again = run(store, samples, epochs=8)
    assert again.remarks == ("the trained classifier is taken from the store",)
    assert state_hash(again.module.state_dict()) == state_hash(first.module.state_dict())
    assert (again.identity, again.history, again.best_epoch) == (first.identity, first.history, first.best_epoch)
    assert again.trained == first.trained


def test_what_decides_the_weights_decides_the_entry(store, tmp_path):
    base = run(store, epochs=1).identity
    assert run(store, epochs=1, checkpoint=False).identity == base
    assert run(store, epochs=1, seed=1).identity != base
    assert run(store, epochs=1, lr=0.02).identity != base
    assert run(store, toy.samples(seed=1), epochs=1).identity != base
    assert run(store, model=toy.net(width=5), epochs=1).identity != base


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_same_seed_gives_the_same_bits(tmp_path, deterministic):
    compute = replace(toy.CPU, deterministic=deterministic)
    hashes = {
        state_hash(run(Store(tmp_path / name), compute=compute, model=toy.net(dropout=0.3)).module.state_dict())
        for name in "ab"
    }
    assert len(hashes) == 1


def test_a_frozen_backbone_keeps_its_weights_and_the_head_learns(store, weights):
    samples = toy.samples(channels=3, size=32)
    classifier = run(store, samples, pretrained(weights), policy="frozen", epochs=4, lr=0.05)
    given = torch.load(weights, weights_only=True)
    state = classifier.module.state_dict()
    assert all(state[name].equal(value) for name, value in given.items() if not name.startswith("fc."))
    assert classifier.history[-1]["train_loss"] < classifier.history[0]["train_loss"]
    assert "head 'fc' does not fit 3 classes" in classifier.remarks[0]
    assert all(weight.requires_grad for weight in classifier.module.parameters())


@pytest.mark.parametrize("head", ["linear", "gap_1024_512"])
def test_stored_features_give_what_the_whole_net_gives(tmp_path, weights, monkeypatch, head):
    samples, model = toy.samples(channels=3, size=32), pretrained(weights)
    if head != "linear":  # study 2's: hidden layers, dropout, one output
        samples, model = toy.samples(classes=2, channels=3, size=32), studied(tmp_path, head)
    settings = {"policy": "frozen", "epochs": 4, "lr": 0.05 if head == "linear" else 1e-3}
    stored = run(Store(tmp_path / "a"), samples, model, **settings)
    monkeypatch.setattr("heatproof.stages.train.frozen.tail", lambda *_: None)
    plain = run(Store(tmp_path / "b"), samples, model, **settings)
    assert any("the backbone runs in every epoch" in remark for remark in plain.remarks)
    assert not list((tmp_path / "b").rglob("features.npy"))
    assert list((tmp_path / "a").rglob("features.npy"))
    for name, value in stored.module.state_dict().items():
        assert value.allclose(plain.module.state_dict()[name], atol=1e-5), name
    assert stored.history[-1]["val_loss"] == pytest.approx(plain.history[-1]["val_loss"], abs=1e-5)


def studied(folder, head):
    torch.manual_seed(0)
    torch.save(bind("model", "torchvision", {"name": "resnet18"})(7, 3).state_dict(), folder / "resnet.pth")
    settings = {"name": "resnet18", "weights": str(folder / "resnet.pth"), "head": head, "one_logit": True}
    return bind("model", "torchvision", settings)


def test_the_backbone_runs_once_and_another_head_takes_its_features(store, weights, monkeypatch):
    from heatproof.stages.train import frozen

    calls = []
    original = frozen.head_input
    monkeypatch.setattr(frozen, "head_input", lambda *given: (calls.append(1), original(*given))[1])
    samples = toy.samples(channels=3, size=32)
    run(store, samples, pretrained(weights), policy="frozen", epochs=5)
    first = len(calls)
    run(store, samples, pretrained(weights), policy="frozen", epochs=5, lr=0.02)
    assert first < 12
    assert len(calls) - first == 1  # the look at what follows the head


def test_augmentation_needs_the_whole_net(store, weights):
    samples = toy.samples(channels=3, size=32)
    run(store, samples, pretrained(weights), policy="frozen", epochs=1, augment=("flip",))
    assert not list(store.root.rglob("features.npy"))


def test_a_head_that_is_a_convolution_is_trained_on_features(tmp_path, store):
    torch.manual_seed(0)
    net = bind("model", "torchvision", {"name": "squeezenet1_1"})(7, 3)
    torch.save(net.state_dict(), tmp_path / "squeeze.pth")
    model = pretrained(str(tmp_path / "squeeze.pth"), "squeezenet1_1")
    classifier = run(store, toy.samples(30, channels=3, size=32), model, policy="frozen", epochs=2)
    assert list(store.root.rglob("features.npy"))
    assert not any("every epoch" in remark for remark in classifier.remarks)


def test_finetuning_changes_all_layers(store, weights):
    samples = toy.samples(30, channels=3, size=32)
    classifier = run(store, samples, pretrained(weights), policy="finetune", epochs=1)
    given = torch.load(weights, weights_only=True)
    assert not classifier.module.conv1[0].weight.equal(given["conv1.0.weight"])
    assert classifier.module.conv1[0].weight.allclose(given["conv1.0.weight"], atol=0.1)


def test_a_file_of_weights_counts_by_content(store, weights, tmp_path):
    samples = toy.samples(30, channels=3, size=32)
    first = run(store, samples, pretrained(weights), policy="frozen", epochs=1)
    copy = tmp_path / "elsewhere.pth"
    copy.write_bytes(Path(weights).read_bytes())
    moved = run(store, samples, pretrained(str(copy)), policy="frozen", epochs=1)
    assert moved.identity == first.identity
    assert "the trained classifier is taken from the store" in moved.remarks


def test_none_takes_the_weights_as_they_are(store, weights):
    samples = toy.samples(30, classes=7, channels=3, size=32)
    classifier = run(store, samples, pretrained(weights), policy="none")
    assert state_hash(classifier.module.state_dict()) == state_hash(torch.load(weights, weights_only=True))
    assert (classifier.history, classifier.best_epoch) == ((), None)
    assert classifier.classes == samples.classes


def test_without_class_names_the_weights_say_how_many_there_are(store, weights):
    samples = toy.samples(30, channels=3, size=32, labels=False)
    classifier = run(store, samples, pretrained(weights), policy="none")
    assert classifier.classes == tuple("0123456")


@pytest.mark.parametrize(
    ("settings", "with_weights", "message"),
    [
        ({"policy": "none"}, False, "pretrained weights are needed"),
        ({"policy": "none"}, True, "the head is untrained.*train=frozen"),
        ({"policy": "frozen"}, False, "model.weights=imagenet"),
        ({"policy": "finetune"}, False, "pretrained weights are needed"),
        ({"policy": "scratch"}, True, "train=finetune or train=frozen"),
    ],
)
def test_policies_and_weights_must_fit(store, weights, settings, with_weights, message):
    model = pretrained(weights if with_weights else None)
    with pytest.raises(HeatproofError, match=message):
        run(store, toy.samples(30, channels=3, size=32), model, **settings)


def test_a_net_without_pretrained_weights_says_so(store):
    with pytest.raises(HeatproofError, match="no pretrained weights to begin with"):
        run(store, policy="frozen")


def test_all_faults_of_the_settings_are_told_at_once(store):
    with pytest.raises(HeatproofError) as error:
        run(
            store,
            policy="freeze",
            optimizer="adamm",
            monitor="loss",
            augment=("flop",),
            epochs=0,
            batch=0,
            patience=-1,
            lr=0.0,
            clip_norm=0.0,
        )
    keys = ["policy", "optimizer", "monitor", "augment", "epochs", "batch", "patience", "lr", "clip_norm"]
    assert [key for key in keys if f"train.{key}" in str(error.value)] == keys
    assert "Did you mean 'frozen'" in str(error.value)


def test_images_too_small_for_the_net_are_refused(store):
    model = bind("model", "torchvision", {"name": "alexnet"})
    with pytest.raises(HeatproofError, match="alexnet: the net cannot take images of 16 x 16 px"):
        run(store, toy.samples(channels=3), model)


def test_data_that_cannot_be_learned_from_are_refused(store):
    samples = toy.samples()
    samples.table.loc[(samples.table["label"] == 1) & (samples.table["split"] == "train"), "split"] = "val"
    with pytest.raises(HeatproofError, match="no image of c1 in the split train"):
        run(store, samples)
    with pytest.raises(HeatproofError, match="no labels to train on"):
        run(store, toy.samples(labels=False))


def test_bf16_on_a_cpu_is_remarked_upon(store):
    classifier = run(store, compute=replace(toy.CPU, precision="bf16"), epochs=1)
    assert classifier.remarks == ("precision=bf16 is for CUDA; float32 is used on cpu",)


def test_it_overfits_32_phantom_images(store):
    few = LoadSettings(42, "grouped", (1.0, 0.0, 0.0), 32, None, 64, 1, None)
    samples = load(bind("dataset", "phantom", {"root": None}), few, store)
    assert len(samples.rows("train")) == 32
    classifier = run(store, samples, bind("model", "small_cnn"), epochs=40, batch=16, lr=0.01, schedule="cosine")
    images, labels = samples.images(samples.rows("train")), samples.table["label"].to_numpy()
    with torch.inference_mode():
        assert classifier.module(images).argmax(1).tolist() == labels.tolist()


def test_the_end_of_the_backbone_follows_the_head(store, weights):
    samples = toy.samples(channels=3, size=32)
    phases = (Phase(2, 0.01, 4),)
    classifier = run(
        store, samples, pretrained(weights), policy="frozen", epochs=3, lr=0.05, phases=phases, monitor="val_accuracy"
    )
    assert [entry["phase"] for entry in classifier.history] == [1, 1, 1, 2, 2]
    assert [entry["lr"] for entry in classifier.history] == [0.05, 0.05, 0.05, 0.01, 0.01]
    given, state = torch.load(weights, weights_only=True), classifier.module.state_dict()
    moved = {name.rpartition(".")[0] for name in given if name[:3] != "fc." and not state[name].equal(given[name])}
    unfrozen = {"conv5.0", "conv5.1", "stage4.3.branch2.6", "stage4.3.branch2.5"}
    assert moved == (unfrozen if classifier.best_epoch > 3 else set())
    assert len(list(store.root.rglob("features.npy"))) == 1


def test_features_are_stored_of_the_given_backbone_alone(store, weights):
    """A head that is trained after the backbone has changed sees the backbone as it is then."""
    samples = toy.samples(30, channels=3, size=32)
    again = (Phase(1, 0.05, "all"), Phase(2, 0.05, 0))
    run(store, samples, pretrained(weights), policy="frozen", epochs=1, lr=0.05, phases=again)
    (kept,) = list(store.root.rglob("features.npy"))
    first = np.load(kept)
    other = Store(store.root.with_name("other"))
    run(other, samples, pretrained(weights), policy="frozen", epochs=1)
    (kept,) = list(other.root.rglob("features.npy"))
    assert np.array_equal(first, np.load(kept))
    # The same phases on a whole net that never stores features end alike.
    tasks = Tasks(
        bind("model", "torchvision", {"name": "shufflenet_v2_x0_5"})(3, 3), samples,
        toy.training(policy="frozen", phases=again), toy.CPU, torch.device("cpu"), store, {}, False,
    )  # fmt: skip
    assert [tasks.of(phase).logits == tasks._through_net for phase in tasks.settings.all_phases()] == [
        False,
        True,
        True,
    ]


def test_what_is_for_cuda_alone_is_remarked_upon(store):
    classifier = run(store, epochs=1, compile=True)
    assert classifier.remarks == ("train.compile is for CUDA; the net runs as it is on cpu",)


def test_too_little_memory_is_remarked_upon(store, monkeypatch):
    whole = Tasks._through_net

    def limited(self, rows, epoch):
        if len(rows) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, rows, epoch)

    monkeypatch.setattr(Tasks, "_through_net", limited)
    classifier = run(store, epochs=1)
    assert classifier.remarks == ("batches of 8 images passed in parts of 4: more did not fit into memory",)


def test_monitored_classes_must_be_there(store):
    with pytest.raises(HeatproofError, match="monitor_classes: no such class, got 'c7'"):
        run(store, monitor="val_recall", monitor_classes=("c7",))
    samples = toy.samples()
    samples.table.loc[(samples.table["label"] == 1) & (samples.table["split"] == "val"), "split"] = "test"
    with pytest.raises(HeatproofError, match="no image of c1 in the split val"):
        run(store, samples, monitor="val_recall", monitor_classes=("c1",))


@pytest.mark.parametrize(
    ("model", "size", "settings", "message"),
    [
        (preset("model", "vit_b_16"), 100, {}, r"dataset\.size: vit_b_16 cuts images into patches"),
        (preset("model", "vgg16"), 20, {}, r"model vgg16: the net cannot take images of 20 x 20 px"),
        (bind("model", "small_cnn", {"one_logit": True}), 64, {}, r"and there are 3"),
        (
            preset("model", "resnet18"),
            64,
            {"policy": "frozen", "unfreeze": 500},
            r"train\.unfreeze: the backbone has 40",
        ),
        (preset("model", "densenet121"), 64, {"policy": "frozen", "unfreeze": 9}, None),
        (bind("model", "torchvision", {"name": "resnet18", "weights": "imagenet"}), 64, {}, None),
    ],
)
def test_a_net_is_tried_before_images_are_loaded(model, size, settings, message):
    """Without numbers: no weights are drawn or fetched."""
    before = torch.random.get_rng_state()
    with pytest.raises(HeatproofError, match=message) if message else nullcontext():
        check_net(model, 3, 1, size, toy.training(**settings))
    assert torch.random.get_rng_state().equal(before)


def test_a_file_of_weights_is_tried_before_images_are_loaded(weights):
    check_net(pretrained(weights), 3, 3, 64, toy.training(policy="frozen", unfreeze=0))
    with pytest.raises(HeatproofError, match="the file lacks tensors of this net"):
        check_net(pretrained(weights, "resnet18"), 3, 3, 64, toy.training(policy="frozen", unfreeze=0))
