"""Pictures of a text-to-image model, many of each prompt, as shards: what `onceseen audit` looks at.

FILE is a csv or parquet file with a column prompt (or caption), or a txt file with one prompt a line. RUN/stats/
prompts.csv, which `onceseen audit --prompts RUN` writes, is one; so is RUN/stats/captions.parquet. Prompts that are the
same but for case and white space are taken once.

The model is a pipeline of diffusers, from a directory or the hub (pip install 'onceseen[diffusers]'), or a function of
your own. A safety checker is not loaded and no watermark is drawn: an audit must see what the model gives.

SHARDS receives 00000.tar, 00001.tar, ...; the generations of a prompt lie one after the other, each a lossless picture
with its prompt (txt) and prompt, seed and number (json). The seed is a function of the prompt and the number alone, so
a longer list of prompts, or more pictures of each, begins with the same ones.

A killed command is resumed by the same command, shard by shard. Shards of other prompts, settings or weights are
refused, not mixed.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onceseen.generate import Generator, PipelineSettings

TAKES_BEAM_OPTIONS = True  # SHARDS and FILE may be in a store
EPILOG = """\
examples:
  onceseen audit --prompts run --per-bin 100                      prompts by number of copies: run/stats/prompts.csv
  onceseen generate --pipeline ./my-model --prompts run/stats/prompts.csv --output generations
                                                                  500 pictures of each, from save_pretrained's directory
  onceseen generate --pipeline CompVis/stable-diffusion-v1-4 --prompts run/stats/prompts.csv --output generations \\
      --device cuda --steps 50 --guidance-scale 7.5 --batch-size 16
                                                                  Stable Diffusion as in Carlini et al. 2023, fp16
  onceseen generate --pipeline stabilityai/stable-diffusion-xl-base-1.0 --prompts captions.txt --per-prompt 100 \\
      --output generations --device cuda --dtype bf16 --height 512 --width 512 --option negative_prompt=text
  onceseen generate --callable my_model:sample --prompts captions.txt --output generations
                                                                  def sample(prompts, seeds): one array (h, w, 3)
                                                                  of uint8 RGB for each
  onceseen audit generations --reference run --output audit       which of them does the model know by heart?

Of a function's weights Onceseen knows nothing: give it an attribute spec (a dict, such as the hash of its weights), or
--overwrite after training it again. 500 pictures of 1,000 prompts are 500,000: days on one GPU, and some 200 GB as png
of 512 pixels. Part the prompts between several --output for several GPUs; `onceseen audit` takes them together.
"""
_PIPELINE_ONLY = ("device", "dtype", "steps", "guidance_scale", "height", "width", "options")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--pipeline",
        default="",
        metavar="PATH_OR_HUB",
        help="directory of a diffusers pipeline, or its name on the hub",
    )
    model.add_argument(
        "--callable",
        default="",
        metavar="module:function",
        help="a function of prompts and seeds, in place of a pipeline",
    )
    parser.add_argument("--prompts", required=True, metavar="FILE", help="csv, parquet or txt")
    parser.add_argument("--output", required=True, metavar="SHARDS", help="directory of the shards")
    parser.add_argument(
        "--per-prompt", type=int, default=500, metavar="N", help="pictures of each prompt (default: 500)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=8,
        metavar="N",
        help="pictures made at once (default: 8); one of the settings, since it changes last bits",
    )
    parser.add_argument(
        "--shard-size", type=int, default=1_000, metavar="N", help="pictures a shard at most (default: 1000)"
    )
    parser.add_argument(
        "--format", default="png", choices=("png", "webp"), help="both lossless (default: png)"
    )
    _add_pipeline_arguments(parser.add_argument_group("with --pipeline"))
    parser.add_argument("--overwrite", action="store_true", help="start again, whatever shards SHARDS holds")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_pipeline_arguments(group: argparse._ArgumentGroup) -> None:
    own = " (default: the pipeline's own)"
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), help="cuda fails where there is none (default: auto)"
    )
    group.add_argument(
        "--dtype", choices=("auto", "fp32", "fp16", "bf16"), help="default: fp16 on a GPU, fp32 on the CPU"
    )
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps" + own)
    group.add_argument("--guidance-scale", type=float, metavar="X", help="classifier-free guidance" + own)
    group.add_argument("--height", type=int, metavar="PIXELS", help="of the pictures" + own)
    group.add_argument("--width", type=int, metavar="PIXELS", help="of the pictures" + own)
    group.add_argument(
        "--option", dest="options", action="append", metavar="name=value",
        help="a further argument of the pipeline's call, such as clip_skip=1; may be repeated",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Makes the pictures and prints what came of it.

    Returns:
        0.
    """
    from onceseen.generate import generate_shards, read_prompts

    settings = _settings(args)
    found = read_prompts(args.prompts)
    if found.merged:
        print(
            f"{found.merged:,} prompts are the same as others but for case and white space, and are left out"
        )
    written = generate_shards(
        _generator(args, settings),
        found.prompts,
        args.output,
        per_prompt=args.per_prompt,
        batch_size=args.batch_size,
        shard_size=args.shard_size,
        image_format=args.format,
        overwrite=args.overwrite,
        quiet=args.quiet,
    )
    if not written.made:
        print(f"{args.output}: done already, of these prompts and settings; nothing to do")
    print(
        f"{written.generations:,} pictures of {written.prompts:,} prompts in {written.shards:,} shards, "
        f"{written.made:,} of them made now: {args.output}"
    )
    return 0


def _generator(args: argparse.Namespace, settings: PipelineSettings) -> Generator:
    from onceseen.generate import DiffusersGenerator, load_callable

    return load_callable(args.callable) if args.callable else DiffusersGenerator(args.pipeline, settings)


def _settings(args: argparse.Namespace) -> PipelineSettings:
    """The pipeline's settings.

    Raises:
        ValueError: If there is no pipeline that they could be of, or one is wrong.
    """
    from onceseen.generate import PipelineSettings

    given = {name: getattr(args, name) for name in _PIPELINE_ONLY if getattr(args, name) is not None}
    if args.callable and given:
        flags = ", ".join(
            "--" + name.removesuffix("s" if name == "options" else "").replace("_", "-") for name in given
        )
        raise ValueError(f"{flags} belong to --pipeline; what {args.callable} does is for itself to say")
    given["options"] = dict(_option(text) for text in given.get("options", ()))
    return PipelineSettings(**given)


def _option(text: str) -> tuple[str, Any]:
    """`name=value` with the value as YAML.

    Raises:
        ValueError: If it is not of that form.
    """
    import yaml

    name, found, value = text.partition("=")
    if not found or not name.strip().isidentifier():
        raise ValueError(f"--option {text!r}: expected name=value, such as clip_skip=1")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--option {text!r}: the value is not valid YAML: {error}") from error
