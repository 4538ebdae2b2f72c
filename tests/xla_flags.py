"""How tests ask XLA to compile: quickly, because most of their time goes into compiling.

Without optimisation, by the emitters of single operations instead of those of fusions, in one
thread: compiling takes a third of the time. Claims about results are tested on programs as users
compile them, by `make test-slow`. From 0.11 on, jaxlib has the emitters of fusions only, and ends
the process when it reads a flag that it does not know.
"""

import importlib.metadata

_JAXLIB = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))

COMPILE_FAST = " ".join(
    [
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",
        *(["--xla_cpu_use_fusion_emitters=false"] if _JAXLIB < (0, 11) else []),
    ]
)
