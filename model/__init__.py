"""The codec: PyTorch, transformers, peft, bitsandbytes. Knows no Ray, no Parquet, no command line."""
