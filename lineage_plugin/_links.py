"""Where the project lives: what reports link to."""

__all__ = ["DOCS", "HOME"]

HOME = "https://github.com/lineage-plugin/hf-lineage"
DOCS = f"{HOME}/blob/main/docs"
