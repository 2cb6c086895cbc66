"""The Space: paste two model ids, get the same answer as ``lineage compare``."""

from pathlib import Path

from lineage_plugin.web.serve import serve_space

if __name__ == "__main__":
    serve_space(Path(__file__).resolve().parent)
