"""Transformers, recurrent and other networks over sequences, with random weights, as exporters write them."""
