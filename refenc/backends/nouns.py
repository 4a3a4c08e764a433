"""What moves in a caption, by a small language model that is shown examples (in-context prompting, CPSGD)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from refenc.backends import images, weights

MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
_TOKENS = 24
_MOST = 4
_EXAMPLES = (
    ("a man riding a horse on the beach", "man, horse"),
    ("a red car driving down a street next to tall buildings", "car"),
    ("two dogs playing with a ball in a green field", "dogs, ball"),
    ("a mountain lake under a cloudy sky", "none"),
)

Namer = Callable[[str], list[str]]


def load(model: str | None) -> Namer:
    """From a caption to the nouns in it that move; ``model`` is a folder or a name in the cache.

    OSError when it is not there.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = model or MODEL
    network = weights.read(name, AutoModelForCausalLM.from_pretrained).eval().to(images.device())
    tokenizer = weights.read(name, AutoTokenizer.from_pretrained)

    def moving(caption: str) -> list[str]:
        inputs = tokenizer(prompt(caption), return_tensors="pt").to(images.device())
        with torch.inference_mode():
            tokens = network.generate(**inputs, max_new_tokens=_TOKENS, do_sample=False)
        answer = tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return parse(str(answer), caption)

    return moving


def prompt(caption: str) -> str:
    """The examples, then the question."""
    asked = [f"Caption: {one}\nMoving objects: {answer}\n" for one, answer in _EXAMPLES]
    task = "Name the objects in a caption that can move on their own or are moved.\n\n"
    return task + "\n".join(asked) + f"\nCaption: {caption}\nMoving objects:"


def parse(answer: str, caption: str) -> list[str]:
    """The nouns of an answer's first line, those alone that the caption has, at most four."""
    names = [part.strip(" .").lower() for part in answer.strip().partition("\n")[0].split(",")]
    return [name for name in dict.fromkeys(names) if name and name in caption.lower()][:_MOST]
