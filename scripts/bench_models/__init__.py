"""Four well-known networks with fixed random weights, written as torch's exporter would write them, without torch.

Speed doesn't depend on what the weights are, so nothing is downloaded. BatchNormalization is folded into convolutions,
as the exporter does it in evaluation mode; the zoo's efficientnet_lite0 has it unfolded.
"""
