"""Banks over HTTP: an ASGI app whose requests go to the codec together. docs/serve.md shows its use."""
