"""Device, profile, seeds."""

import random

import numpy as np
import pytest
import torch

import seglab
from seglab import runtime


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("SEGLAB_PROFILE", "SEGLAB_STEPS", "SEGLAB_SEED", "SEGLAB_REAL", "SEGLAB_RECORD"):
        monkeypatch.delenv(name, raising=False)


def test_setup_prints_one_line_and_tells_what_it_chose(capsys):
    run = seglab.setup(seed=3)
    assert capsys.readouterr().out.count("\n") == 1
    assert run.seed == 3
    assert run.profile == ("gpu" if torch.cuda.is_available() else "cpu")
    assert run.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert run.versions["torch"] == torch.__version__.split("+")[0]
    assert not run.real


def test_setup_makes_all_random_numbers_repeatable():
    def draw():
        seglab.setup(seed=5)
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    assert draw() == draw()


@pytest.mark.parametrize(("profile", "steps"), [("fast", 1), ("cpu", 20), ("gpu", 300)])
def test_profile_chooses_the_steps(monkeypatch, profile, steps):
    monkeypatch.setenv("SEGLAB_PROFILE", profile)
    run = runtime.start()
    assert run.steps(fast=1, cpu=20, gpu=300) == steps
    assert run.pick(fast="a", cpu="b", gpu="c") == {"fast": "a", "cpu": "b", "gpu": "c"}[profile]


def test_steps_and_seed_can_be_overridden_from_outside(monkeypatch):
    monkeypatch.setenv("SEGLAB_STEPS", "2")
    monkeypatch.setenv("SEGLAB_SEED", "9")
    run = runtime.start(0)
    assert run.steps(fast=1, cpu=20, gpu=300) == 2
    assert run.seed == 9


@pytest.mark.parametrize(
    ("name", "value"), [("SEGLAB_PROFILE", "tpu"), ("SEGLAB_STEPS", "-1"), ("SEGLAB_SEED", "x")]
)
def test_impossible_setting_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} is '{value}'"):
        runtime.start().steps(fast=1, cpu=1, gpu=1)


def test_autocast_is_bfloat16_only_where_the_processor_has_it(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        expected = torch.bfloat16 if native else torch.float32
        assert runtime.autocast_dtype("cpu") == expected


def test_old_gpu_gets_float16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert runtime.autocast_dtype("cuda") == torch.float16


def test_convolutions_in_float32_do_not_round_on_newer_gpus(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's default
    runtime.start()
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.conv.fp32_precision != "tf32"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_any_tensor_becomes_an_array(dtype):
    numbers = torch.tensor([[1, 2], [3, 4]], dtype=dtype)
    learning = numbers.requires_grad_() if dtype.is_floating_point else numbers
    for given in (numbers, learning, [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])):
        np.testing.assert_array_equal(runtime.to_array(given), [[1, 2], [3, 4]])
