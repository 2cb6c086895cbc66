"""Checkpoints that were not written for PyTorch: where their numbers lie, and what PyTorch calls them.

Flax, Keras and ONNX files describe their tensors at places spread over the file. The walkers of this package read
those places and nothing else, each field checked before it is followed, and find for every tensor the stretch of the
file that holds it. They are written out here, rather than left to libraries, because the libraries load whole files
(msgpack, onnx) or parse hostile ones in C (HDF5).
"""
