"""The codec: PyTorch, transformers, peft, bitsandbytes. Knows no Ray, no Parquet, no command line."""

import logging

# On a CPU that multiplies bf16 it warns that a kernel is not fetched from a hub; 4-bit codes do without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
