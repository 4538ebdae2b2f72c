"""How tests ask XLA to compile: quickly, because most of their time goes into compiling.

Without optimisation, by the emitters of single operations instead of those of fusions, in one
thread: compiling takes a third of the time. Claims about results are tested on programs as users
compile them, by `make test-slow`.
"""

COMPILE_FAST = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
