"""`pyarrow.compute` for type checkers: its functions are made when it is imported."""

from typing import Any

import pyarrow.compute

compute: Any = pyarrow.compute
