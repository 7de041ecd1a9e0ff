"""`onceseen generate` with a real, tiny pipeline of diffusers, from the command line and by itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from onceseen.cli import main
from onceseen.core.config import ReadConfig
from onceseen.core.records import ImageSample
from onceseen.generate import DiffusersGenerator, PipelineSettings, generation_seed
from onceseen.shards import list_shards, read_shard
from tiny_pipeline import save_tiny_pipeline

pytestmark = [
    pytest.mark.skipif(
        find_spec("diffusers") is None,
        reason="diffusers is not installed: pip install 'onceseen[diffusers]'",
    ),
    # The first test imports diffusers and transformers, on a busy machine for most of half a minute.
    pytest.mark.timeout(180),
]

_FEW = {"steps": 2, "guidance_scale": 5.0}
_PROMPTS = ("a red fox", "the cat on the mat", "a dog", "a dog")
_SEEDS = (1, (1 << 62) + 5, 3, 4)
Pictures = list[npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(saved: Path) -> DiffusersGenerator:
    return DiffusersGenerator(str(saved), PipelineSettings(**_FEW))


def _apart(a: Pictures, b: Pictures) -> int:
    """The largest difference, in levels of 255."""
    return int(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max())


def test_a_picture_depends_on_its_prompt_and_seed_alone(model: DiffusersGenerator) -> None:
    whole = model(_PROMPTS, _SEEDS)
    assert [(p.shape, p.dtype) for p in whole] == [((32, 32, 3), np.uint8)] * 4
    assert all(p.std() > 5 for p in whole)
    assert _apart(whole, model(_PROMPTS, _SEEDS)) == 0
    backwards = model(_PROMPTS[::-1], _SEEDS[::-1])
    one_by_one = [model([prompt], [seed])[0] for prompt, seed in zip(_PROMPTS, _SEEDS, strict=True)]
    assert _apart(whole, backwards[::-1]) <= 1
    assert _apart(whole, one_by_one) <= 1
    assert _apart([whole[2]], [whole[3]]) > 20  # another seed
    assert _apart([whole[2]], model(["a red fox"], [3])) > 3  # another prompt


def test_settings_reach_the_pipeline(saved: Path, model: DiffusersGenerator) -> None:
    settings = PipelineSettings(steps=3, height=48, width=64, options={"negative_prompt": "a dog"})
    pictures = DiffusersGenerator(str(saved), settings)(_PROMPTS[:2], _SEEDS[:2])
    assert [p.shape for p in pictures] == [(48, 64, 3)] * 2
    more = DiffusersGenerator(str(saved), PipelineSettings(steps=3, guidance_scale=5.0))
    assert _apart(model(_PROMPTS[:1], _SEEDS[:1]), more(_PROMPTS[:1], _SEEDS[:1])) > 1


def test_what_a_pipeline_is_does_not_depend_on_where_it_lies(
    saved: Path, model: DiffusersGenerator, tmp_path: Path
) -> None:
    shutil.copytree(saved, tmp_path / "moved")
    moved = DiffusersGenerator(str(tmp_path / "moved"), PipelineSettings(**_FEW))
    assert moved.spec == model.spec
    assert model.spec["pipeline"] == "StableDiffusionPipeline"
    assert model.spec["arguments"] == {"num_inference_steps": 2, "guidance_scale": 5.0}
    assert json.loads(json.dumps(model.spec)) == model.spec


def _trained_on(saved: Path, target: Path) -> Path:
    """The pipeline with one weight of its U-Net changed."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(saved)
    with torch.no_grad():
        pipe.unet.conv_out.bias[0] += 0.01
    pipe.save_pretrained(target)
    return target


def test_a_model_trained_on_is_another(saved: Path, model: DiffusersGenerator, tmp_path: Path) -> None:
    later = DiffusersGenerator(str(_trained_on(saved, tmp_path / "later")), PipelineSettings(**_FEW))
    assert later.spec["weights_sha256"] != model.spec["weights_sha256"]


def test_a_scheduler_of_other_settings_is_another_model(
    saved: Path, model: DiffusersGenerator, tmp_path: Path
) -> None:
    shutil.copytree(saved, tmp_path / "other")
    path = tmp_path / "other" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "beta_end": 0.03}))
    other = DiffusersGenerator(str(tmp_path / "other"), PipelineSettings(**_FEW))
    assert other.spec["weights_sha256"] != model.spec["weights_sha256"]


def test_no_safety_checker_stands_between(tmp_path: Path) -> None:
    """One that finds a concept in every picture: the pipeline alone gives black ones."""
    import torch
    from diffusers import StableDiffusionPipeline

    path = save_tiny_pipeline(tmp_path, safety_checker=True)
    whole = StableDiffusionPipeline.from_pretrained(path)
    whole.safety_checker.concept_embeds_weights.data.fill_(-2)
    generator = torch.Generator().manual_seed(1)
    assert not whole("a dog", num_inference_steps=2, generator=generator, output_type="np").images.any()
    whole.save_pretrained(path)
    assert DiffusersGenerator(str(path), PipelineSettings(**_FEW))(["a dog"], [1])[0].any()


def test_pixels_that_are_no_numbers_are_an_error_not_black(saved: Path, tmp_path: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(saved)
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias.fill_(torch.nan)
    pipe.save_pretrained(tmp_path / "overflows")
    with pytest.raises(RuntimeError, match=r"gave pixels that are no numbers.*--dtype"):
        DiffusersGenerator(str(tmp_path / "overflows"), PipelineSettings(**_FEW))(["a dog"], [1])


def test_a_gpu_that_is_not_there_is_an_error(saved: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=r"--device is cuda, but torch .* finds no usable GPU"):
        DiffusersGenerator(str(saved), PipelineSettings(device="cuda"))
    assert DiffusersGenerator(str(saved)).runs_on == "cpu in fp32"


def test_what_is_no_text_to_image_pipeline(saved: Path, tmp_path: Path) -> None:
    from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), norm_num_groups=8, layers_per_block=1,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    DDPMPipeline(unet, DDIMScheduler()).save_pretrained(tmp_path / "unconditional")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    shutil.rmtree(broken / "unet")
    cases: Mapping[str, str] = {
        str(tmp_path / "unconditional"): "is a DDPMPipeline, which takes no prompt",
        str(tmp_path / "empty"): r"is no pipeline: it has no model_index\.json",
        str(broken): r"broken cannot be loaded: .*no file named config\.json",
        str(tmp_path / "nowhere"): "there is no such directory; expected one with a model_index",
        "nowhere": "there is no such directory",
        "s3://bucket/pipeline": "copy it to a local disk",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message):
            DiffusersGenerator(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "tpu"}, "the device is 'tpu'; expected auto, cpu or cuda"),
        ({"dtype": "int8"}, "the dtype is 'int8'; expected auto, fp32, fp16 or bf16"),
        ({"steps": 0}, "steps is 0; expected 1 or more"),
        ({"options": {"prompt": "x"}}, "the option prompt is given by onceseen itself"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PipelineSettings(**settings)


def test_an_argument_that_a_pipeline_does_not_take(saved: Path) -> None:
    message = (
        "is a StableDiffusionPipeline, which takes no stepz; it takes: .*guidance_scale.*negative_prompt"
    )
    with pytest.raises(ValueError, match=message):
        DiffusersGenerator(str(saved), PipelineSettings(options={"stepz": 3}))
    options = {"negative_prompt": 3}
    refused = DiffusersGenerator(str(saved), PipelineSettings(steps=2, options=options))
    with pytest.raises(ValueError, match=r"StableDiffusionPipeline refuses its arguments: .*negative_prompt"):
        refused(["a dog"], [1])


def test_a_size_that_a_pipeline_rounds(saved: Path) -> None:
    rounds = DiffusersGenerator(str(saved), PipelineSettings(steps=2, height=33))
    with pytest.raises(
        ValueError, match="height 32 and width 32, asked for 33 and 32; give sizes that it can"
    ):
        rounds(["a dog"], [1])


def _command(saved: Path, prompts: Path, output: Path, *more: str) -> list[str]:
    flags = [*("--per-prompt", "3", "--batch-size", "2", "--shard-size", "3"), "--quiet"]
    flags += ["--steps", "2", "--guidance-scale", "5"]
    return [
        *("generate", "--pipeline", str(saved), "--prompts", str(prompts), "--output", str(output)),
        *flags,
        *more,
    ]


def _read(output: Path) -> list[ImageSample]:
    config = ReadConfig(meta_columns=("prompt", "seed", "index"))
    found = [s for shard in list_shards([str(output)], config) for s in read_shard(shard, config)]
    assert all(isinstance(s, ImageSample) and s.error is None for s in found)
    return [s for s in found if isinstance(s, ImageSample)]


def test_the_command_writes_shards_that_readers_take_and_goes_on(
    saved: Path, model: DiffusersGenerator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prompts, output = tmp_path / "prompts.csv", tmp_path / "out"
    prompts.write_text("prompt,copies\na red fox,64\na dog,1\nA  Dog,1\n")
    command = _command(saved, prompts, output)
    capfd.readouterr()
    assert main(command) == 0
    said = capfd.readouterr()
    assert "1 prompts are the same as others but for case and white space, and are left out" in said.out
    assert f"6 pictures of 2 prompts in 2 shards, 6 of them made now: {output}" in said.out
    assert "StableDiffusionPipeline) runs on c" in said.err
    assert len(said.err.splitlines()) == 1  # no bars, no advice of the libraries
    samples = _read(output)
    assert [s.caption for s in samples] == ["a red fox"] * 3 + ["a dog"] * 3
    for number, sample in enumerate(samples):
        seed = generation_seed(sample.caption, number % 3)
        assert json.loads(sample.meta) == {"prompt": sample.caption, "seed": seed, "index": number % 3}
        assert sample.image is not None
        rgb = cv2.imdecode(np.frombuffer(sample.image, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        assert _apart([rgb], model([sample.caption], [seed])) <= 1
    whole = {path.name: path.read_bytes() for path in output.glob("*.tar")}
    (output / "00001.tar").unlink()
    assert main(command) == 0
    assert "3 of them made now" in capfd.readouterr().out
    assert {path.name: path.read_bytes() for path in output.glob("*.tar")} == whole
    assert main(command) == 0
    assert "done already, of these prompts and settings; nothing to do" in capfd.readouterr().out
    assert main(_command(_trained_on(saved, tmp_path / "later"), prompts, output)) == 2
    assert "holds pictures made otherwise: generator.weights_sha256 was" in capfd.readouterr().err
    assert main([*command, "--steps", "3", "--overwrite"]) == 0
    assert "6 of them made now" in capfd.readouterr().out
    assert _apart([_pixels(_read(output)[0])], [_pixels(samples[0])]) > 1


def _pixels(sample: ImageSample) -> npt.NDArray[np.uint8]:
    assert sample.image is not None
    return np.asarray(cv2.imdecode(np.frombuffer(sample.image, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def test_the_command_with_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grey_model.py").write_text(
        "import numpy as np\n"
        "def sample(prompts, seeds):\n"
        "    return [np.full((16, 16, 3), seed % 256, np.uint8) for seed in seeds]\n"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a cat\n")
    command = ["generate", "--callable", "grey_model:sample", "--prompts", "prompts.txt", "--quiet"]
    command += ["--per-prompt", "2", "--output", "out"]
    assert main(command) == 0
    assert [int(_pixels(s)[0, 0, 0]) for s in _read(tmp_path / "out")] == [
        generation_seed("a cat", index) % 256 for index in (0, 1)
    ]
    assert json.loads((tmp_path / "out" / ".onceseen-generate.json").read_text())["generator"] == {
        "kind": "callable",
        "name": "grey_model:sample",
    }
    assert main([*command, "--steps", "3", "--option", "a=1"]) == 2
    assert "--steps, --option belong to --pipeline" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "one of the arguments --pipeline --callable is required"),
        (["--pipeline", "p", "--callable", "a:b"], "not allowed with"),
        (["--pipeline", "p", "--option", "x"], "--option 'x': expected name=value"),
        (["--pipeline", "p", "--option", "x=[1"], "the value is not valid YAML"),
        (["--pipeline", "p"], r"prompts.txt, line 1: the prompt is empty"),
        (["--callable", "nowhere:f"], r"prompts.txt, line 1: the prompt is empty"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("\n")
    command = [
        "generate",
        "--prompts",
        str(tmp_path / "prompts.txt"),
        "--output",
        str(tmp_path / "out"),
        *more,
    ]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """In a process that finds none of its modules."""
    code = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Without(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        absent = name in ('diffusers', 'transformers')\n"
        "        return None if absent else super().find_spec(name, path, target)\n"
        "sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]\n"
        "from onceseen.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "prompts.txt").write_text("a cat\n")
    flags = ["--prompts", str(tmp_path / "prompts.txt"), "--output", str(tmp_path / "out"), "--pipeline", "p"]
    command = [sys.executable, "-c", code, "generate", *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "a pipeline needs diffusers, transformers, which is not installed" in result.stderr
    assert "pip install 'onceseen[diffusers]'" in result.stderr


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in (
        "stable-diffusion-v1-4",
        "--callable my_model:sample",
        "prompts.csv",
        "safety checker",
        "--overwrite",
    ):
        assert word in shown
