"""The registry: fingerprints of many models in a folder, searched for the base that a model comes from."""
