"""Which values of a normalised ONNX graph become integers, and with which ranges.

All of it rewrites ONNX: pairs of QuantizeLinear and DequantizeLinear go in, as in models that were quantized elsewhere.
"""
