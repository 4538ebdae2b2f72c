"""Flags of `accelerator.py --paper`; the defaults are those of `paper_plan`."""

from typing import TYPE_CHECKING

from absl import flags

from bap_jax.errors import UserError

if TYPE_CHECKING:
    from accelerator_parts.paper_plan import Plan

PAPER = flags.DEFINE_bool("paper", False, "the paper's CIFAR-100 run in place of the parts")
DATA = flags.DEFINE_string(
    "data", "", "array file, made by pack_images.py or cifar100.npz; made-up images in a dry run"
)
_OPTIONS = {
    "methods": flags.DEFINE_list("methods", None, "of tuning; an empty list: dense network only"),
    "sparsities": flags.DEFINE_list("sparsities", None, "each with every seed"),
    "seeds": flags.DEFINE_list("seeds", None, "of the sparse networks"),
    "depth": flags.DEFINE_integer("depth", None, "of the ResNet"),
    "width": flags.DEFINE_integer("width", None, "of the ResNet"),
    "dense_epochs": flags.DEFINE_integer("dense_epochs", None, "of the dense network"),
    "dense_decay": flags.DEFINE_float("dense_decay", None, "weight decay of the dense network"),
    "pruning_epochs": flags.DEFINE_integer("pruning_epochs", None, "of the sparse networks"),
    "tuning_epochs": flags.DEFINE_integer("tuning_epochs", None, "of the sparse networks"),
    "precision": flags.DEFINE_enum("precision", None, ["float32", "bfloat16"], "of the layers"),
    "members": flags.DEFINE_enum(
        "members", None, ["auto", "vmap", "map"], "how the networks of a method share a program"
    ),
    "compile_ahead": flags.DEFINE_bool(
        "compile_ahead", None, "compile while the device is busy; default: not on a CPU"
    ),
    "save_seconds": flags.DEFINE_float("save_seconds", None, "from one save to the next"),
}
_TYPES = {"methods": str, "sparsities": float, "seeds": int}


def plan(small: bool) -> "Plan":
    """The plan that the flags describe.

    Raises:
      UserError: a flag has a value that no run can have.
    """
    from accelerator_parts import paper_plan

    options = dict(paper_plan.SMALL) if small else {}
    for name, flag in _OPTIONS.items():
        value = flag.value
        if value is not None:
            options[name] = _of_type(name, value) if name in _TYPES else value
    return paper_plan.Plan(**options)


def _of_type(name, words):
    """The entries of a list; an empty list may hold an empty word."""
    kind = _TYPES[name]
    try:
        return tuple(kind(word) for word in words if word)
    except ValueError as error:
        raise UserError(f"--{name}={','.join(words)}: expected numbers ({error}).") from error
