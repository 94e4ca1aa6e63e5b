"""The data doctor: what is wrong with rows before a model learns from them."""
