"""The packed file as bytes, a safetensors file with a JSON header: read and checked without torch."""
