"""Pictures that a text-to-image model makes of a list of prompts, as shards: the input of the audit.

Any callable from prompts and seeds to pictures is a `Generator`; `DiffusersGenerator` is one for every pipeline of
diffusers that takes a prompt.
"""

from onceseen.generate.callables import load_callable
from onceseen.generate.pipeline import DiffusersGenerator, PipelineSettings
from onceseen.generate.prompts import PromptList, generation_seed, prompt_id, read_prompts
from onceseen.generate.writing import Generator, Written, generate_shards

__all__ = [
    "DiffusersGenerator",
    "Generator",
    "PipelineSettings",
    "PromptList",
    "Written",
    "generate_shards",
    "generation_seed",
    "load_callable",
    "prompt_id",
    "read_prompts",
]
