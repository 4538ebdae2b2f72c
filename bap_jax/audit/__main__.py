"""python -m bap_jax.audit, see `bap_jax.audit.command`."""

import sys

from bap_jax.audit.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
