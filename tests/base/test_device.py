import platform
import subprocess
import sys

import pytest
import torch

from heatproof.base import device
from heatproof.base.errors import HeatproofError
from heatproof.base.settings import Compute


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


def test_auto_takes_the_first_gpu_or_the_cpu(gpus):
    gpus(0)
    assert device.resolve(Compute("auto", "fp32", False)) == torch.device("cpu")
    gpus(2)
    assert device.resolve(Compute("auto", "fp32", False)) == torch.device("cuda:0")
    assert device.resolve(Compute("cuda:1", "fp32", False)) == torch.device("cuda:1")
    assert device.resolve(Compute("cpu", "fp32", False)) == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("cuda", 0, "0 CUDA devices"),
        ("cuda:3", 1, "1 CUDA device;"),
        ("cuba", 1, "Did you mean 'cuda'"),
        ("cuda:x", 1, "unknown"),
        ("cpu:1", 1, "unknown"),
    ],
)
def test_a_device_that_is_not_there_is_refused(gpus, name, count, message):
    gpus(count)
    with pytest.raises(HeatproofError, match=message):
        device.resolve(Compute(name, "fp32", False))


def test_an_unknown_precision_is_refused():
    with pytest.raises(HeatproofError, match="bf16"):
        device.resolve(Compute("cpu", "fp16", False))


def test_bf16_is_for_cuda():
    compute = Compute("auto", "bf16", False)
    assert device.uses_bf16(compute, torch.device("cuda"))
    assert not device.uses_bf16(compute, torch.device("cpu"))
    with device.autocast(compute, torch.device("cpu")):
        assert torch.ones(2, 2).matmul(torch.ones(2, 2)).dtype == torch.float32


def test_repeatable_leaves_no_trace_also_after_an_error():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)

    def draw():
        with device.repeatable(1, True, torch.device("cpu")):
            assert torch.are_deterministic_algorithms_enabled()
            return torch.rand(3)

    assert draw().equal(draw())
    with pytest.raises(ZeroDivisionError), device.repeatable(1, True, torch.device("cpu")):
        torch.rand(1 // 0)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.rand(3).equal(wanted)


def test_what_has_no_deterministic_algorithm_is_refused_with_its_name():
    def unable():
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set ...\nmore")

    with (
        pytest.raises(
            HeatproofError, match=r"deterministic: not possible on cpu: cumsum_cuda_kernel.*deterministic=false"
        ),
        device.repeatable(0, True, torch.device("cpu")),
    ):
        unable()
    with pytest.raises(RuntimeError, match="cumsum"), device.repeatable(0, False, torch.device("cpu")):
        unable()
    assert not torch.are_deterministic_algorithms_enabled()


# Pages cleared anew while eight tensors of 24 MiB are made and freed 20 times: 982 400 where all are given back.
CHURN = """
import resource, torch
from heatproof.base.device import keep_freed_memory
keep_freed_memory()
make = lambda: len([torch.ones(6 * 2**20) for _ in range(8)])
for _ in range(5):
    make()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    make()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_freed_memory_is_used_again_and_not_given_back():
    done = subprocess.run([sys.executable, "-c", CHURN], capture_output=True, check=True, text=True)
    assert int(done.stdout) < 50_000
